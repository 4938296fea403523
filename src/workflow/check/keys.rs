//! The grammar as tables: which keys each kind of mapping has, what they are for, and what may stand behind them. The
//! checker reads a file by them; editors and the JSON Schema show them. A key that is not here does not exist.

/// The keys of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Keys {
    /// What the mapping is, for messages: `a step`.
    pub(crate) what: &'static str,
    /// In the order of the documentation.
    pub(crate) known: &'static [Key],
    /// Keys that a misspelled key may have meant, though it has no place here.
    pub(crate) near: &'static [&'static str],
    /// Keys of the language that this version does not carry out: refused, never ignored.
    pub(crate) later: &'static [&'static str],
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// As it is written, in kebab-case.
    pub(crate) name: &'static str,
    /// What it is for, in a sentence.
    pub(crate) doc: &'static str,
    /// What may stand behind it, any one of these.
    pub(crate) shapes: &'static [Shape],
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Text as it is, without expressions.
    Text,
    /// Any value, with expressions in its texts.
    Value,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A length of time, such as `90s`.
    Duration,
    /// A number of bytes, such as `4GiB`.
    Size,
    /// An amount of money, such as `5 USD`.
    Money,
    /// One of these words.
    Words(&'static [&'static str]),
    /// An expression without `${{ }}`.
    Expression,
    /// A list of such values, or one alone.
    List(&'static [Shape]),
    /// A list of such values, which is a list even where it has one.
    Items(&'static [Shape]),
    /// A mapping with these keys.
    Keys(&'static Keys),
    /// A mapping with the keys of one of these: the first key of each says that it is that one.
    Kinds(&'static [&'static Keys]),
    /// A mapping of names that the author chooses to such values.
    Named(&'static [Shape]),
    /// A function of a component, or the file of a workflow.
    Uses,
    /// The parameters of the step's function, or the inputs of its workflow.
    Arguments,
    /// The inputs of the file itself, each with a value.
    Inputs,
    /// The name by which the steps of a loop see its item.
    Item,
    /// The secret slots of the step's function, each with the name of a secret.
    Slots,
    /// The name of a secret.
    Secret,
    /// The name of a sandbox.
    Sandbox,
    /// The sandbox parameters of the step's function, each with the name of a sandbox.
    SandboxParameters,
    /// The name of a step.
    Step,
    /// An error kind that the step can fail with.
    ErrorKind,
}

impl Key {
    pub(super) const fn new(name: &'static str, doc: &'static str, shapes: &'static [Shape]) -> Self {
        Self { name, doc, shapes }
    }
}

impl Keys {
    /// The key of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        self.known.iter().find(|key| key.name == name)
    }

    /// The names of its keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.known.iter().map(|key| key.name)
    }
}

#[cfg(test)]
mod tests;
