#![allow(clippy::print_stdout)]

//! Runs the conformance cases: what a real Istio and a real Envoy did, against what this crate does.
//!
//! `cargo test --test conformance` runs `tests/conformance/`; `CONFORMANCE_DIR=DIR` another folder of the same layout.
//! After `--`: `--only PREFIX` runs the worlds (or `validation`) whose names start so, `--quiet` leaves out the lines of
//! single disagreements, `--driver tower` goes through the tower stack. Time is virtual, the upstreams are scripted, the draws are seeded: a run always gives the same.
//!
//! The exit code is non-zero when a case of a finished area disagrees, or when a file cannot be read.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::world::World;
use support::{Drive, simulate, through_tower, verdicts};

/// Areas that are not finished: they run and count, but do not fail the run.
const UNFINISHED: &[&str] = &[];

#[derive(Default)]
struct Tally {
    agree: usize,
    disagree: usize,
}

impl Tally {
    fn count(&mut self, agrees: bool) {
        if agrees {
            self.agree += 1;
        } else {
            self.disagree += 1;
        }
    }

    fn add(&mut self, other: &Tally) {
        self.agree += other.agree;
        self.disagree += other.disagree;
    }

    fn total(&self) -> usize {
        self.agree + self.disagree
    }
}

type Driver = fn(&World) -> Result<Box<dyn Drive>, String>;

struct Options {
    driver: Driver,
    dir: PathBuf,
    only: String,
    quiet: bool,
}

fn options() -> Options {
    let dir = std::env::var_os("CONFORMANCE_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance"));
    let mut options = Options { driver: simulate::driver, dir, only: String::new(), quiet: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => options.only = arguments.next().unwrap_or_default(),
            "--quiet" | "-q" => options.quiet = true,
            "--driver" => match arguments.next().as_deref() {
                Some("engine") => options.driver = simulate::driver,
                Some("tower") => options.driver = through_tower::driver,
                other => panic!("--driver is `engine` or `tower`, not {other:?}"),
            },
            // What cargo passes to every test binary.
            _ => {}
        }
    }
    options
}

fn main() -> ExitCode {
    let options = options();
    let mut unreadable = 0;
    let mut skipped = 0;
    let mut areas: BTreeMap<String, Tally> = BTreeMap::new();

    for path in files(&options.dir.join("worlds"), "yaml") {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !stem.starts_with(&options.only) {
            continue;
        }
        let world = match World::read(&path) {
            Ok(world) => world,
            Err(error) => {
                println!("{}: cannot be read: {error}", path.display());
                unreadable += 1;
                continue;
            }
        };
        let tally = areas.entry(world.area().to_owned()).or_default();
        let results = support::run(&world, (options.driver)(&world));
        skipped += world.cases.len().saturating_sub(results.len());
        for result in results {
            tally.count(result.differences.is_empty());
            if !options.quiet {
                for line in &result.differences {
                    println!("{} / {}: {line}", world.name, result.case);
                }
            }
        }
    }

    let mut validation = Tally::default();
    if "validation".starts_with(&options.only) {
        let cases = options.dir.join("validation/cases.json");
        let patterns = options.dir.join("validation/regex.json");
        for read in [verdicts::cases(&cases), verdicts::patterns(&patterns)] {
            match read {
                Ok(results) => {
                    for result in results {
                        validation.count(result.differences.is_empty());
                        if !options.quiet {
                            for line in &result.differences {
                                println!("validation / {}: {line}", result.case);
                            }
                        }
                    }
                }
                Err(error) => {
                    println!("{error}");
                    unreadable += 1;
                }
            }
        }
    }

    let mut worlds = Tally::default();
    let mut failed = unreadable;
    println!("\n{:<14} {:>7} {:>7} {:>9}", "area", "cases", "agree", "disagree");
    for (area, tally) in &areas {
        let unfinished = UNFINISHED.contains(&area.as_str());
        let note = if unfinished { "  (unfinished)" } else { "" };
        println!("{area:<14} {:>7} {:>7} {:>9}{note}", tally.total(), tally.agree, tally.disagree);
        worlds.add(tally);
        failed += if unfinished { 0 } else { tally.disagree };
    }
    failed += if UNFINISHED.contains(&"validation") { 0 } else { validation.disagree };
    if skipped > 0 {
        println!("\n{skipped} cases cannot be put to this driver");
    }
    println!("\nworlds: {} cases, {} agree, {} disagree", worlds.total(), worlds.agree, worlds.disagree);
    println!(
        "validation: {} verdicts, {} agree, {} disagree",
        validation.total(),
        validation.agree,
        validation.disagree
    );
    println!(
        "{} passed, {} failed",
        worlds.agree + validation.agree,
        worlds.disagree + validation.disagree + unreadable
    );
    if worlds.total() + validation.total() == 0 {
        println!("nothing was run: is {} a conformance folder?", options.dir.display());
        return ExitCode::FAILURE;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The folder's files of one kind, sorted by name.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}
