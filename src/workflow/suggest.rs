//! "Did you mean": the nearest of the names that would have been right.

/// The candidate nearest to `name`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(name, candidates).into_iter().next()
}

/// All candidates that are as near to `name` as the nearest, where that is near enough to be meant.
fn near<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    /// Longest name compared; distance is quadratic.
    const MAX_COMPARED: usize = 64;
    if name.len() > MAX_COMPARED {
        return Vec::new();
    }
    let flat = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = flat(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    let measured: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_COMPARED)
        .map(|candidate| {
            let near = flat(candidate);
            // A part of a name is meant more often than another name of the same length.
            let part = wanted.len() >= 4 && near.contains(&wanted);
            (
                if part { 1.min(near.len() - wanted.len()) } else { strsim::osa_distance(&wanted, &near) },
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .collect();
    let least = measured.iter().map(|(distance, _)| *distance).min();
    let nearest = measured.into_iter().filter(|(distance, _)| Some(*distance) == least);
    nearest.map(|(_, candidate)| candidate).collect()
}

/// `a, b and c`, at most a dozen.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 16;
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "none".into(),
        [one] => one.clone(),
        [rest @ .., last] if names.len() <= SHOWN => format!("{} and {last}", rest.join(", ")),
        more => format!("{} and {} more", more[..SHOWN].join(", "), more.len() - SHOWN),
    }
}

/// "did you mean `x`?", "did you mean `x` or `y`?", or else the list of what there is.
pub(crate) fn help<'a>(
    what: &str,
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match near(name, candidates.clone()).as_slice() {
        [] => format!("{what}: {}", listed(candidates)),
        [one] => format!("did you mean `{one}`?"),
        [one, other, ..] => format!("did you mean `{one}` or `{other}`?"),
    }
}

/// The one name that a text of [`help`] proposes, where a program may write it: a plain word, and no other is as near.
pub(crate) fn proposed(help: &str) -> Option<&str> {
    let name = help.strip_prefix("did you mean `")?.strip_suffix("`?")?;
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    // Without quotes these words are no text.
    (word && !matches!(name, "" | "null" | "true" | "false")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        for (name, expected) in [
            ("pth", Some("path")),
            ("full-name", Some("full_name")),
            ("brnach", Some("branch")),
            ("nothing", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, ["path", "sha", "full_name", "branch"]), expected, "{name}");
        }
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }

    #[test]
    fn only_one_plain_name_is_proposed_to_programs() {
        for (name, names, expected) in [
            ("pth", &["path", "sha"][..], Some("path")),
            ("name", &["full_name", "file_name"], None),
            ("nothing", &["path"], None),
            ("nul", &["null"], None),
            ("two word", &["two words"], None),
        ] {
            assert_eq!(proposed(&help("there are", name, names.iter().copied())), expected, "{name}");
        }
    }
}
