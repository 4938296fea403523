//! "Did you mean": the nearest of the names that would have been right.

/// The candidate nearest to `name`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longest name compared; distance is quadratic.
    const MAX_COMPARED: usize = 64;
    if name.len() > MAX_COMPARED {
        return None;
    }
    let flat = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = flat(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
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
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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

/// "did you mean X?", or else the list of what there is.
pub(crate) fn help<'a>(
    what: &str,
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(name, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("{what}: {}", listed(candidates)),
    }
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
}
