//! Components by content: from bytes of any origin to something that can be linked. A run names components by digest
//! alone, so what it uses is kept here and never changes.

use super::cache::Cache;
use super::engine;
use super::types::{self, Declared};
use crate::id::Digest;
use crate::workflow::types::ComponentType;
use std::io;
use std::path::Path;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Largest component, in bytes. Interpreters with their libraries stay below 40 MiB.
pub const COMPONENT_LIMIT: usize = 64 << 20;

/// Changes whenever `types.rs` reads a component differently, so that types kept by an older harvest are read anew.
const TYPES_VERSION: u32 = 1;

/// Why a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More bytes than [`COMPONENT_LIMIT`].
    #[error("it has {0} bytes; a component has at most {limit}", limit = COMPONENT_LIMIT)]
    TooLarge(usize),
    /// A module of core WebAssembly.
    #[error(
        "it is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    Module,
    /// Something else, or damaged.
    #[error("it is no valid component: {0}")]
    Malformed(String),
    /// Nothing that a workflow could call.
    #[error("it exports no step function; a step is an exported `name: func(...) -> result<T, E>`")]
    NoStep,
    /// Imports that harvest does not offer.
    #[error("it imports what harvest does not offer: {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// A step function that cannot be called from a workflow.
    #[error("function {function}, {place}: {what}")]
    Type {
        /// In snake_case.
        function: String,
        /// `parameter x`, `result` or `error`.
        place: String,
        /// Why not.
        what: String,
    },
    /// The component of a run is not on this machine.
    #[error("component {0} is not in this home any more")]
    Missing(Digest),
    /// The cache or store could not be used.
    #[error("cannot keep components: {0}")]
    Io(#[from] io::Error),
}

/// Components with their compiled forms and types.
#[derive(Clone)]
pub struct Library {
    engine: Engine,
    /// `components/HEX.wasm`: what runs refer to.
    kept: Cache,
    /// `cache/compiled/HEX-COMPATIBILITY.cwasm`: may be deleted at any time.
    compiled: Cache,
    compatibility: String,
}

impl Library {
    /// Opens the library of a home.
    pub fn open(home: &Path) -> Result<Self, LoadError> {
        let engine = engine::start().map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(Self {
            kept: Cache::open(&home.join("components"))?,
            compiled: Cache::open(&home.join("cache/compiled"))?,
            compatibility: engine::compatibility(&engine),
            engine,
        })
    }

    /// The engine that every component of this library runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether a component reaches nothing but what it is handed: no network, no git, no files that outlive a run.
    pub fn is_contained(&self, digest: &Digest) -> bool {
        const CONTAINED: [&str; 6] = [
            "harvest:run/ledger@",
            "harvest:run/run@",
            "harvest:streams/streams@",
            "harvest:sandbox/types@",
            "harvest:repos/",
            "wasi:",
        ];
        let known = |import: &String| CONTAINED.iter().any(|name| import.starts_with(name));
        self.declared(digest).is_ok_and(|declared| declared.imports.iter().all(known))
    }

    /// Takes in a component: checks it, keeps it, and says what it declares. `name` is only passed on.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Result<ComponentType, LoadError> {
        if bytes.len() > COMPONENT_LIMIT {
            return Err(LoadError::TooLarge(bytes.len()));
        }
        let digest = Digest::of(bytes);
        let declared = match self.known_types(&digest) {
            Some(declared) => declared,
            None => {
                refuse_other_files(bytes)?;
                // Compiling validates all of it; reading its types alone would not look into functions.
                let declared = types::read(bytes)?;
                self.compile(&digest, bytes)?;
                let json = serde_json::to_vec(&declared).map_err(io::Error::other)?;
                self.compiled.write(&digest, &self.types_suffix(), &json)?;
                declared
            }
        };
        if self.kept.trusted(&digest, ".wasm").is_none() {
            self.kept.write(&digest, ".wasm", bytes)?;
        }
        let Declared { functions, imports, needs } = declared;
        Ok(ComponentType { name: name.to_owned(), digest, functions, imports, needs })
    }

    /// A component that was added before, ready to link.
    pub fn load(&self, digest: &Digest) -> Result<Component, LoadError> {
        if let Some(path) = self.compiled.trusted(digest, &self.code_suffix()) {
            // SAFETY: the file was written by `compile` below and renamed into place when complete; its directory is
            // this user's alone, which `Cache` has checked, so nobody else can have made or changed it.
            match unsafe { Component::deserialize_file(&self.engine, &path) } {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!("compiling {digest} again: {error:#}"),
            }
        }
        let bytes = self.kept.read(digest, ".wasm").ok_or(LoadError::Missing(*digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(LoadError::Malformed("its bytes in this home have changed".into()));
        }
        self.compile(digest, &bytes)
    }

    /// What a component added before declares.
    pub(super) fn declared(&self, digest: &Digest) -> Result<Declared, LoadError> {
        if let Some(declared) = self.known_types(digest) {
            return Ok(declared);
        }
        let bytes = self.kept.read(digest, ".wasm").ok_or(LoadError::Missing(*digest))?;
        types::read(&bytes)
    }

    fn compile(&self, digest: &Digest, bytes: &[u8]) -> Result<Component, LoadError> {
        let component = Component::from_binary(&self.engine, bytes)
            .map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
        let code = component.serialize().map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
        self.compiled.write(digest, &self.code_suffix(), &code)?;
        Ok(component)
    }

    fn known_types(&self, digest: &Digest) -> Option<Declared> {
        serde_json::from_slice(&self.compiled.read(digest, &self.types_suffix())?).ok()
    }

    fn code_suffix(&self) -> String {
        format!("-{}.cwasm", self.compatibility)
    }

    fn types_suffix(&self) -> String {
        format!("-{}.types{TYPES_VERSION}.json", self.compatibility)
    }
}

/// Says what a file is where it is no component, better than a parser does.
fn refuse_other_files(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::Module),
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', ..] => {
            Err(LoadError::Malformed("it is truncated or of an unknown version".into()))
        }
        _ => Err(LoadError::Malformed("it does not begin like WebAssembly".into())),
    }
}
