//! The codes of diagnostics. A code is stable: once released, neither its number nor its meaning changes.

use super::suggest;
use std::fmt;

/// What kind of mistake a diagnostic is about: `E0312`, `W0101`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// `E` and four digits for errors, `W` and four digits for warnings.
    pub id: &'static str,
    /// The kind of mistake, in a few words.
    pub title: &'static str,
}

impl Code {
    /// Whether a file with this diagnostic may still run.
    pub fn is_warning(self) -> bool {
        self.id.starts_with('W')
    }

    /// The code that a person typed.
    pub fn find(id: &str) -> Option<Self> {
        ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(id))
    }

    /// The code that a person may have meant.
    pub fn near(id: &str) -> Option<Self> {
        let digits = id.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let letter = if id.starts_with(['w', 'W']) { 'W' } else { 'E' };
        let padded = format!("{letter}{digits:0>4}");
        Self::find(&padded).or_else(|| Self::find(suggest::nearest(&padded, ALL.iter().map(|code| code.id))?))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.title)
    }
}

macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal;)*) => {
        $(
            #[doc = concat!($id, ": ", $title, ".")]
            pub const $name: Code = Code { id: $id, title: $title };
        )*

        /// Every code, in order.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    SYNTAX = "E0101", "not YAML";
    TAB = "E0102", "a tab in the indentation";
    ANCHOR = "E0103", "an anchor or alias";
    TAG = "E0104", "a tag";
    MERGE_KEY = "E0105", "a merge key";
    DUPLICATE_KEY = "E0106", "a key written twice";
    DOCUMENTS = "E0107", "several documents";
    TOO_LARGE = "E0108", "a limit is exceeded";
    KEY_SHAPE = "E0109", "a key that is no text";
    UNKNOWN_KEY = "E0201", "an unknown key";
    MISSING_KEY = "E0202", "a missing key";
    WRONG_SHAPE = "E0203", "a mapping, list or text where another is needed";
    BAD_VALUE = "E0204", "a value that cannot be read";
    UNSUPPORTED = "E0205", "not supported yet";
    BAD_NAME = "E0206", "a malformed name";
    CONFLICTING = "E0207", "keys that exclude each other";
    TAKEN_NAME = "E0208", "a name that is taken";
    EXPRESSION_SYNTAX = "E0301", "not an expression";
    UNCLOSED = "E0302", "an unclosed `${{`";
    UNKNOWN_NAME = "E0310", "an unknown name";
    UNKNOWN_STEP = "E0311", "an unknown step";
    UNKNOWN_FIELD = "E0312", "an unknown output, input or field";
    TYPE_MISMATCH = "E0313", "types that do not fit";
    UNKNOWN_FUNCTION = "E0314", "an unknown function";
    BAD_ARGUMENTS = "E0315", "arguments that a function does not take";
    MAY_BE_ABSENT = "E0316", "a value that may be absent";
    NOT_BOOL = "E0317", "a condition that is no bool";
    NOT_SCALAR = "E0318", "text with a hole that is no scalar";
    SECRET_VALUE = "E0319", "a secret in an expression";
    BAD_USES = "E0401", "a malformed `uses`";
    UNKNOWN_COMPONENT = "E0402", "an unknown component";
    UNKNOWN_FUNCTION_OF_COMPONENT = "E0403", "an unknown function of a component";
    UNKNOWN_PARAMETER = "E0404", "an unknown parameter";
    MISSING_PARAMETER = "E0405", "a missing parameter";
    WRONG_ARGUMENT = "E0406", "an argument of the wrong type";
    VERSION = "E0407", "a version that does not exist";
    SUB_WORKFLOW = "E0408", "a sub-workflow with mistakes";
    RECURSION = "E0409", "a workflow that uses itself";
    UNKNOWN_WORKFLOW = "E0410", "an unknown sub-workflow";
    UNKNOWN_SLOT = "E0501", "an unknown secret slot";
    UNBOUND_SLOT = "E0502", "an unbound secret slot";
    UNKNOWN_SECRET = "E0503", "an unknown secret";
    UNGRANTED = "E0504", "a permission that is not granted";
    UNKNOWN_PERMISSION = "E0505", "an unknown permission";
    UNKNOWN_SANDBOX = "E0506", "an unknown sandbox";
    SANDBOX_CHOICE = "E0507", "a sandbox not chosen, or not taken";
    SECRET_SOURCE = "E0508", "a malformed secret source";
    NETWORKS_AT_ONCE = "E0509", "two networks in one sandbox at once";
    UNKNOWN_NEED = "E0601", "an unknown step in `needs`";
    CYCLE = "E0602", "steps that wait for each other";
    ORDER = "E0603", "a step read before it has ended";
    INSIDE_LOOP = "E0604", "a step on the other side of a loop";
    NESTED_LOOP = "E0605", "a loop inside a loop";
    SAME_KEY = "E0606", "a loop whose items share one key";
    RETRY_KIND = "E0701", "an error kind that cannot be raised";
    CREDENTIAL = "E0801", "a credential in the file";
    CRON = "E0901", "a malformed cron expression";
    NEVER_DUE = "E0902", "a schedule that is never due";
    TIME_ZONE = "E0903", "an unknown time zone";
    UNUSED_INPUT = "W0101", "an unused input";
    UNUSED_SECRET = "W0102", "an unused secret";
    CONSTANT_CONDITION = "W0103", "a condition that never changes";
    SHELL_INJECTION = "W0104", "an expression inside a shell command";
}

/// The codes of names that mean nothing: one misspelled declaration makes as many of them as it has uses.
pub(crate) const UNKNOWN_NAMES: [Code; 5] =
    [UNKNOWN_NAME, UNKNOWN_STEP, UNKNOWN_FIELD, UNKNOWN_SECRET, UNKNOWN_NEED];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted() {
        let errors_first = |code: &Code| (code.is_warning(), code.id);
        assert!(ALL.windows(2).all(|pair| errors_first(&pair[0]) < errors_first(&pair[1])));
        assert_eq!(Code::find("e0312"), Some(UNKNOWN_FIELD));
    }

    #[test]
    fn a_code_typed_wrong_is_recognised() {
        for (typed, meant) in [
            ("312", Some(UNKNOWN_FIELD)),
            ("E312", Some(UNKNOWN_FIELD)),
            ("w101", Some(UNUSED_INPUT)),
            ("E3012", Some(UNKNOWN_FIELD)),
            ("E03124", Some(UNKNOWN_FIELD)),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(Code::near(typed), meant, "{typed}");
        }
    }
}
