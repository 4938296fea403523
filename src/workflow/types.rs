//! The types of the language: what inputs, outputs, arguments and expressions are. Read from WIT by the host, from
//! files by the checker.

use crate::id::Digest;
use crate::step::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A type of the workflow language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A number of 64 bits.
    Float,
    /// Text.
    String,
    /// Bytes; base64 text in files.
    Bytes,
    /// A length of time; `90s`, `1h 30m` in files.
    Duration,
    /// A number of bytes; `4GiB` in files.
    Size,
    /// One of these words.
    Enum(Vec<String>),
    /// Several values of one type.
    List(Box<Type>),
    /// Values by name; a WIT `list<tuple<string, T>>`.
    Map(Box<Type>),
    /// A value that may be absent.
    Option(Box<Type>),
    /// Named fields, in order.
    Record(Vec<Field>),
    /// Values of different types in order.
    Tuple(Vec<Type>),
    /// One of several cases, each with or without a value: `{case: value}` or `case` in files.
    Variant(Vec<(String, Option<Type>)>),
    /// Anything; only where language.md allows it.
    Any,
}

/// A field of a record or a parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, in snake_case.
    pub name: String,
    /// Its type. `Option` may be left out.
    pub ty: Type,
    /// What its author says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Size => f.write_str("size"),
            Self::Enum(cases) => write!(f, "enum({})", cases.join(" | ")),
            Self::List(item) => write!(f, "list<{item}>"),
            Self::Map(value) => write!(f, "map<{value}>"),
            Self::Option(inner) => write!(f, "{inner}?"),
            Self::Record(fields) => {
                f.write_str("{ ")?;
                for (i, field) in fields.iter().enumerate() {
                    write!(f, "{}{}: {}", if i > 0 { ", " } else { "" }, field.name, field.ty)?;
                }
                f.write_str(" }")
            }
            Self::Tuple(items) => {
                f.write_str("(")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::Variant(cases) => {
                f.write_str("variant(")?;
                for (i, (name, _)) in cases.iter().enumerate() {
                    write!(f, "{}{name}", if i > 0 { " | " } else { "" })?;
                }
                f.write_str(")")
            }
            Self::Any => f.write_str("any"),
        }
    }
}

/// A secret slot of a function: a parameter of type `borrow<secret>` or `option<borrow<secret>>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name, in snake_case.
    pub name: String,
    /// Whether it may stay unbound.
    pub optional: bool,
}

/// A step function as its component declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionType {
    /// Its name, in snake_case.
    pub name: String,
    /// What its author says of it.
    pub doc: Option<String>,
    /// The keys of `with:`: every parameter that is no handle.
    pub parameters: Vec<Field>,
    /// Parameters of type `borrow<sandbox>`, in snake_case.
    pub sandboxes: Vec<String>,
    /// Secret slots.
    pub secrets: Vec<Slot>,
    /// The parameter, if any, of type `list<tuple<string, borrow<secret>>>`: it takes any further slot by name.
    pub any_secrets: Option<String>,
    /// Fields of the outcome; a result that is no record is the one output `value`.
    pub outputs: Vec<Field>,
    /// Error kinds its own error type can raise, kebab-case; `None` where the error is a plain string (kind `other`).
    pub errors: Option<Vec<ErrorKind>>,
}

/// A component as the checker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentType {
    /// Its name: the built-in name, or the stem of its file.
    pub name: String,
    /// Its content.
    pub digest: Digest,
    /// Its step functions.
    pub functions: Vec<FunctionType>,
    /// Interfaces it imports, as `harvest:sandbox/images@0.1.0`.
    pub imports: Vec<String>,
    /// The permissions its imports need: `sandboxes`, `images`, `volumes`, `repos`, `http`, `scratch`, `reveal`.
    pub needs: Vec<String>,
}

impl ComponentType {
    /// The function of this name, in either spelling.
    pub fn function(&self, name: &str) -> Option<&FunctionType> {
        let name = name.replace('-', "_");
        self.functions.iter().find(|function| function.name == name)
    }
}

/// Where the checker finds the components that a file names. The host implements it.
pub trait Catalog {
    /// The component behind the part of `uses:` before the function: `git`, `./team.wasm` (relative to the workflow
    /// file). The error is a sentence for the author, saying what to write instead.
    fn component(&self, uses: &str) -> Result<std::sync::Arc<ComponentType>, String>;
    /// Names of the built-in components, for suggestions.
    fn names(&self) -> Vec<String>;
    /// The workflow file behind `uses: ./other.yaml`. The error is a sentence for the author.
    fn workflow(&self, uses: &str) -> Result<WorkflowFile, String>;
    /// Files beside the workflow file that look like components or workflows, as `uses:` writes them, for suggestions.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A workflow file that another one uses.
pub struct WorkflowFile {
    /// The name under which people find it.
    pub name: String,
    /// The same for every way of naming this file, and for no other file.
    pub identity: String,
    /// Its text.
    pub text: String,
    /// Finds what it names itself: its relative paths start where it lies.
    pub catalog: Box<dyn Catalog>,
}
