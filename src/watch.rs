//! Policy from files, read again when they change.
//!
//! [`Watch::start`] reads policy files and folders and a mesh file, gives them to an engine, and keeps an eye on them. A
//! change is applied within a second; several changes close together are applied once. Kubernetes replaces a mounted
//! `ConfigMap` by turning a symbolic link in its folder; every link on the way to a source, wherever it is, is watched as
//! well, and followed when it turns.
//!
//! What is not right as a whole is refused as a whole, so that a slip in an editor does not take routes away: the last good
//! policy stays, and the watcher is told why. Requests under way keep the policy they began with; ejections and counts
//! stay.
//!
//! ```no_run
//! use pointsman::watch::{Sources, Watch};
//!
//! let sources = Sources::new(["policies/"]).with_mesh("mesh.yaml");
//! let watch = Watch::start(sources, |outcome| match outcome {
//!     Ok(loaded) => eprintln!("policy in force; {} notes", loaded.report.notes.len()),
//!     Err(error) => eprintln!("refused, the last good policy stays: {error}"),
//! })?;
//! let engine = watch.engine().clone();
//! # Ok::<(), pointsman::watch::WatchError>(())
//! ```

use crate::compile::Report;
use crate::engine::{Engine, EngineBuilder};
use crate::mesh::{MeshFile, Viewpoint};
use crate::policy::Policy;
use crate::resource::{Loader, Problem, Resources};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long it must be quiet before files are read again: who writes a file in pieces is not read in between.
const QUIET: Duration = Duration::from_millis(100);
/// But not longer than this after the first change.
const PATIENCE: Duration = Duration::from_millis(500);
/// So many links are followed on the way to a file.
const MOST_LINKS: usize = 40;

/// Where policy and mesh are read from.
#[derive(Clone, Debug)]
pub struct Sources {
    policies: Vec<PathBuf>,
    mesh: Option<PathBuf>,
    viewpoint: Option<Viewpoint>,
}

impl Sources {
    /// Files, and folders of which every `.yaml`, `.yml` and `.json` file is read (not those in folders below them, none
    /// whose name begins with a dot, and not the mesh).
    pub fn new<P: Into<PathBuf>>(policies: impl IntoIterator<Item = P>) -> Self {
        Sources { policies: policies.into_iter().map(Into::into).collect(), mesh: None, viewpoint: None }
    }

    /// The mesh: a file as [`MeshFile`] describes it. Without one there are no services.
    pub fn with_mesh(mut self, mesh: impl Into<PathBuf>) -> Self {
        self.mesh = Some(mesh.into());
        self
    }

    /// For whom the policy is compiled. Otherwise the mesh file's `client` is asked.
    pub fn with_viewpoint(mut self, viewpoint: Viewpoint) -> Self {
        self.viewpoint = Some(viewpoint);
        self
    }

    /// Reads everything once.
    ///
    /// # Errors
    /// A file that cannot be read, a text beyond the limits, a document with an error in it, a mesh that does not read.
    pub fn load(&self) -> Result<Loaded, LoadFailure> {
        let mut texts = Vec::new();
        self.read(&mut texts)?;
        Ok(self.compile(&texts)?.1)
    }

    /// The texts of all files, the mesh's last.
    fn read(&self, texts: &mut Vec<(PathBuf, String)>) -> Result<(), LoadFailure> {
        let text = |path: &Path| {
            let read = std::fs::read_to_string(path);
            read.map_err(|error| LoadFailure::Unreadable { path: path.to_owned(), error })
        };
        for path in &self.policies {
            if path.is_dir() {
                // The mesh may lie among the policies.
                let is_mesh = |file: &PathBuf| self.mesh.as_ref().is_some_and(|mesh| same_file(mesh, file));
                for file in files_of(path)?.into_iter().filter(|file| !is_mesh(file)) {
                    texts.push((file.clone(), text(&file)?));
                }
            } else {
                texts.push((path.clone(), text(path)?));
            }
        }
        if let Some(mesh) = &self.mesh {
            texts.push((mesh.clone(), text(mesh)?));
        }
        Ok(())
    }

    fn compile(&self, texts: &[(PathBuf, String)]) -> Result<(Policy, Loaded), LoadFailure> {
        let (policies, mesh) = match (&self.mesh, texts.split_last()) {
            (Some(_), Some((mesh, policies))) => (policies, Some(mesh)),
            _ => (texts, None),
        };
        let file = match mesh {
            Some((path, text)) => serde_yaml::from_str::<MeshFile>(text)
                .map_err(|error| LoadFailure::Mesh { path: path.clone(), message: error.to_string() })?,
            None => MeshFile::default(),
        };
        let mut all = Resources::default();
        for (path, text) in policies {
            let loader = Loader::new().with_source(path.to_string_lossy().as_ref());
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            let read = if is_json { loader.json(text) } else { loader.yaml(text) };
            let resources =
                read.map_err(|error| LoadFailure::Limit { path: path.clone(), message: error.to_string() })?;
            all.append(resources);
        }
        let errors: Vec<Problem> = all.errors().cloned().collect();
        if !errors.is_empty() {
            return Err(LoadFailure::Documents(errors));
        }
        let viewpoint = self.viewpoint.as_ref().unwrap_or(&file.client);
        let compiled = Policy::compile(&all, &file.mesh, viewpoint);
        let warnings = std::mem::take(&mut all.problems);
        Ok((compiled.policy, Loaded { report: compiled.report, warnings }))
    }

    /// Where a change may matter, as things are now.
    fn places(&self) -> Places {
        let mut places = Places::default();
        for path in self.policies.iter().chain(&self.mesh) {
            places.follow(path);
            if path.is_dir() {
                // Everything in it; and where its files lead to.
                places.folders.insert(path.clone(), Names::All);
                files_of(path).unwrap_or_default().iter().for_each(|file| places.follow(file));
            }
        }
        places
    }
}

/// Folders, and what matters in them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    folders: BTreeMap<PathBuf, Names>,
}

#[derive(Debug, PartialEq, Eq)]
enum Names {
    All,
    These(BTreeSet<OsString>),
}

impl Places {
    fn add(&mut self, path: &Path) {
        let Some(name) = path.file_name() else { return };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let names = self.folders.entry(folder.to_owned()).or_insert_with(|| Names::These(BTreeSet::new()));
        if let Names::These(names) = names {
            names.insert(name.to_owned());
        }
    }

    /// The path itself, and every link on the way to what it stands for.
    fn follow(&mut self, path: &Path) {
        self.add(path);
        let mut links = 0;
        // What is still to be walked, its first component last.
        let mut ahead: Vec<OsString> = components(path);
        let mut at = PathBuf::new();
        while let Some(next) = ahead.pop() {
            at.push(&next);
            let Ok(target) = std::fs::read_link(&at) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return;
            }
            self.add(&at);
            at.pop();
            ahead.extend(components(&target));
        }
        self.add(&at);
    }

    /// Does it matter that something happened at these paths? Of no path nobody knows.
    fn concern(&self, paths: &[PathBuf]) -> bool {
        let concerns = |path: &PathBuf| {
            let names = path.parent().and_then(|parent| {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                self.folders.get(parent)
            });
            let inside = match (names, path.file_name()) {
                (Some(Names::All), _) => true,
                (Some(Names::These(names)), Some(name)) => names.contains(name),
                _ => false,
            };
            inside || self.folders.contains_key(path)
        };
        paths.is_empty() || paths.iter().any(concerns)
    }

    /// Watches these folders; those that were watched before are looked up anew, since another folder may have their name
    /// now.
    fn watch(&self, watcher: &mut RecommendedWatcher, before: &Places) -> notify::Result<()> {
        for folder in before.folders.keys() {
            // One that is gone is no longer watched.
            let _ = watcher.unwatch(folder);
        }
        // All of them, also if one cannot be.
        let mut watched = Ok(());
        for folder in self.folders.keys() {
            watched = watched.and(watcher.watch(folder, RecursiveMode::NonRecursive));
        }
        watched
    }
}

/// A path's components, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|component| *component != Component::CurDir)
        .map(|one| one.as_os_str().to_owned())
        .collect()
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The files of a folder, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, LoadFailure> {
    let failed = |error| LoadFailure::Unreadable { path: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What came of a policy that is in force now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// What did not make it into the policy, and why.
    pub report: Report,
    /// What was odd about the texts.
    pub warnings: Vec<Problem>,
}

/// Why files were not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadFailure {
    /// A file or a folder cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// A text is beyond a limit.
    #[error("{}: {message}", path.display())]
    Limit {
        /// Which.
        path: PathBuf,
        /// Which limit.
        message: String,
    },
    /// The mesh does not read.
    #[error("{}: {message}", path.display())]
    Mesh {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Documents have errors in them.
    #[error("{}", list(_0))]
    Documents(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why watching could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The files were not right at the beginning.
    #[error(transparent)]
    Load(#[from] LoadFailure),
    /// The system does not watch.
    #[error("watching for changes: {0}")]
    Notify(#[from] notify::Error),
    /// No thread.
    #[error("a thread to watch with: {0}")]
    Thread(#[from] std::io::Error),
}

/// Files that are watched, and the engine that they rule. Dropping it ends the watching; the engine goes on.
pub struct Watch {
    engine: Engine,
    stop: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

enum Signal {
    Changed(Vec<PathBuf>),
    Stop,
}

impl Watch {
    /// Reads the sources, makes an engine, and watches. `told` hears of the first policy and of every later one, or why it
    /// was refused; it is called on a thread of the watch.
    ///
    /// # Errors
    /// What [`Sources::load`] says at the beginning; later failures are told and change nothing. Or the system does not
    /// watch.
    pub fn start(
        sources: Sources,
        told: impl FnMut(Result<&Loaded, &LoadFailure>) + Send + 'static,
    ) -> Result<Watch, WatchError> {
        Watch::start_with(sources, Engine::builder(), told)
    }

    /// The same with settings for the engine.
    ///
    /// # Errors
    /// As [`Watch::start`].
    pub fn start_with(
        sources: Sources,
        builder: EngineBuilder,
        mut told: impl FnMut(Result<&Loaded, &LoadFailure>) + Send + 'static,
    ) -> Result<Watch, WatchError> {
        let (stop, signals) = channel();
        let changed = stop.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let paths = match event {
                // Reading is no change.
                Ok(event) if event.kind.is_access() => return,
                Ok(event) => event.paths,
                // An error may hide one.
                Err(_) => Vec::new(),
            };
            let _ = changed.send(Signal::Changed(paths));
        })?;
        // Watched before it is read: a change in between is seen.
        let places = sources.places();
        places.watch(&mut watcher, &Places::default())?;
        let mut texts = Vec::new();
        sources.read(&mut texts)?;
        let (policy, loaded) = sources.compile(&texts)?;
        let engine = builder.build(policy);
        told(Ok(&loaded));
        let mut keeper = Keeper { sources, places, watcher, known: texts, engine: engine.clone(), signals };
        let body = move || {
            while keeper.wait() {
                keeper.catch_up(&mut told);
            }
        };
        let thread = std::thread::Builder::new().name("pointsman-watch".into()).spawn(body)?;
        Ok(Watch { engine, stop, thread: Some(thread) })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Reads again after every change, until it is told to stop.
struct Keeper {
    sources: Sources,
    places: Places,
    watcher: RecommendedWatcher,
    known: Vec<(PathBuf, String)>,
    engine: Engine,
    signals: Receiver<Signal>,
}

impl Keeper {
    /// Waits for a change, and until it is quiet after it. False: it is to stop.
    fn wait(&self) -> bool {
        let first = loop {
            match self.signals.recv() {
                Ok(Signal::Changed(paths)) if self.places.concern(&paths) => break Instant::now(),
                Ok(Signal::Changed(_)) => {}
                Ok(Signal::Stop) | Err(_) => return false,
            }
        };
        let mut quiet = first + QUIET;
        loop {
            let left = quiet.min(first + PATIENCE).saturating_duration_since(Instant::now());
            match self.signals.recv_timeout(left) {
                Ok(Signal::Changed(paths)) if self.places.concern(&paths) => quiet = Instant::now() + QUIET,
                Ok(Signal::Changed(_)) if left.is_zero() => return true,
                Ok(Signal::Changed(_)) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
            if Instant::now() >= first + PATIENCE {
                return true;
            }
        }
    }

    /// Follows links that turned, reads everything, and applies what changed.
    fn catch_up(&mut self, told: &mut impl FnMut(Result<&Loaded, &LoadFailure>)) {
        let places = self.sources.places();
        // A folder that is gone is looked for again at the next change around it.
        let _ = places.watch(&mut self.watcher, &self.places);
        self.places = places;
        let mut texts = Vec::new();
        let read = self.sources.read(&mut texts);
        if read.is_ok() && texts == self.known {
            return;
        }
        match read.and_then(|()| self.sources.compile(&texts)) {
            Ok((policy, loaded)) => {
                self.engine.reload(policy);
                told(Ok(&loaded));
            }
            Err(failure) => {
                self.engine.refuse_reload(&failure);
                told(Err(&failure));
            }
        }
        self.known = texts;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.stop.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            // Dropped by `told` itself it cannot wait for its own end.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("engine", &self.engine).finish_non_exhaustive()
    }
}
