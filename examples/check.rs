#![allow(clippy::print_stdout)]

//! Is a policy right? Files, folders or standard input, judged before any request is.
//!
//! ```text
//! cargo run --features diagnostics --example check -- examples/policies/tester.yaml
//! cargo run --features diagnostics --example check -- --help
//! ```
//!
//! All files are judged together: a route in one may name a subset in another. The exit code is 0 if there is no error, 1 if
//! there is one (or a warning that is denied), 2 for bad usage and for what cannot be read.

use pointsman::Resources;
use pointsman::mesh::MeshFile;
use pointsman::resource::Loader;
use pointsman::validate::{Report, Sarif, Severity, Sources, analyze};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Judges Istio's VirtualServices and DestinationRules before any request is.

usage: check FILES… [--mesh FILE] [--format text|json|sarif] [--deny warnings]

  FILES                policies; of a folder every .yaml, .yml and .json in it and below; `-` is standard input
  --mesh FILE          services, endpoints and gateways, and the client that the policies are compiled for
  --format text        findings with the line of the source, as a compiler prints them (the default)
  --format json        a JSON object a line
  --format sarif       SARIF 2.1.0, for code hosts and editors
  --deny warnings      warnings count as errors
  --help               this

exit code: 0 if there is no error, 1 if there is one (or a warning that is denied), 2 for bad usage and for what cannot be read
";

#[derive(Default)]
struct Order {
    files: Vec<String>,
    mesh: Option<String>,
    format: Format,
    deny_warnings: bool,
}

#[derive(Default, PartialEq)]
enum Format {
    #[default]
    Text,
    Json,
    Sarif,
}

/// A policy file and what stands in it.
struct File {
    name: String,
    text: String,
}

fn main() -> ExitCode {
    let outcome = match Order::read(std::env::args().skip(1)) {
        Ok(Some(order)) => order.carry_out(),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => Err(format!("{message}; --help tells how")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("check: {message}");
            ExitCode::from(2)
        }
    }
}

impl Order {
    /// None if only help was asked for.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Order>, String> {
        let mut order = Order::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--mesh" => order.mesh = Some(value()?),
                "--format" => {
                    order.format = match value()?.as_str() {
                        "text" => Format::Text,
                        "json" => Format::Json,
                        "sarif" => Format::Sarif,
                        other => return Err(format!("there is no format `{other}`: text, json or sarif")),
                    }
                }
                "--deny" => match value()?.as_str() {
                    "warnings" => order.deny_warnings = true,
                    other => return Err(format!("`{other}` cannot be denied: only `warnings` can")),
                },
                "--help" | "-h" => return Ok(None),
                flag if flag.starts_with('-') && flag != "-" => return Err(format!("there is no option `{flag}`")),
                file => order.files.push(file.to_owned()),
            }
        }
        if order.files.is_empty() {
            return Err("no file was given".into());
        }
        Ok(Some(order))
    }

    /// Prints the findings. Is everything right?
    fn carry_out(&self) -> Result<bool, String> {
        let files = self.files()?;
        let mut resources = Resources::default();
        for file in &files {
            let read = Loader::new().with_source(file.name.as_str()).yaml(&file.text);
            resources.append(read.map_err(|error| format!("{}: {error}", file.name))?);
        }
        let mesh: Option<MeshFile> = match &self.mesh {
            Some(name) => {
                let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
                Some(serde_yaml::from_str(&text).map_err(|error| format!("{name}: {error}"))?)
            }
            None => None,
        };
        let report = analyze(&resources, mesh.as_ref().map(|file| (&file.mesh, &file.client)));
        self.print(&report, &files).map_err(|error| format!("standard output: {error}"))?;

        let count = |severity| report.diagnostics.iter().filter(|one| one.severity == severity).count();
        let (errors, warnings, infos) = (count(Severity::Error), count(Severity::Warning), count(Severity::Info));
        let skipped: usize = resources.skipped.values().sum();
        eprintln!(
            "checked {} in {}{}: {}, {}, {infos} for information",
            number(resources.documents.len(), "resource"),
            number(files.len(), "file"),
            if skipped > 0 { format!(", passed over {skipped} of other kinds") } else { String::new() },
            number(errors, "error"),
            number(warnings, "warning"),
        );
        Ok(errors == 0 && (warnings == 0 || !self.deny_warnings))
    }

    fn print(&self, report: &Report, files: &[File]) -> std::io::Result<()> {
        let stdout = std::io::stdout();
        let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let mut out = std::io::BufWriter::new(stdout.lock());
        match self.format {
            Format::Text => {
                let mut sources = Sources::new();
                files.iter().for_each(|file| sources.add(&file.name, &file.text));
                for one in &report.diagnostics {
                    writeln!(out, "{}\n", sources.render(one, color))?;
                }
            }
            Format::Json => {
                for one in &report.diagnostics {
                    serde_json::to_writer(&mut out, one)?;
                    writeln!(out)?;
                }
            }
            Format::Sarif => {
                serde_json::to_writer_pretty(&mut out, &Sarif::new(report))?;
                writeln!(out)?;
            }
        }
        out.flush()
    }

    /// Every file that was named, with those of folders in the order of their names.
    fn files(&self) -> Result<Vec<File>, String> {
        let mut files = Vec::new();
        for name in &self.files {
            if name == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
                files.push(File { name: "<stdin>".into(), text });
                continue;
            }
            let mut paths = Vec::new();
            if Path::new(name).is_dir() {
                walk(Path::new(name), &mut paths).map_err(|error| format!("{name}: {error}"))?;
                if paths.is_empty() {
                    return Err(format!("{name}: there is no .yaml, .yml or .json in it"));
                }
            } else {
                paths.push(PathBuf::from(name));
            }
            for path in paths {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
                files.push(File { name, text });
            }
        }
        Ok(files)
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            walk(&path, found)?;
        } else if matches!(ending, "yaml" | "yml" | "json") {
            found.push(path);
        }
    }
    Ok(())
}

fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
