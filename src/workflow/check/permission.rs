//! `permissions:`, the ambient powers that a file grants.

use super::grammar::PERMISSIONS;
use super::shape;
use crate::step::Permission;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::suggest;
use indexmap::IndexSet;

/// Reads a list of names and one-key maps.
pub(super) fn read(report: &mut Report, entry: &Entry, secrets: &IndexSet<String>) -> Vec<Permission> {
    let Kind::List(items) = &entry.value.kind else {
        shape::shape(report, &entry.key, &entry.value, "a list", "permissions: [images]");
        return Vec::new();
    };
    items.iter().filter_map(|item| permission(report, item, secrets)).collect()
}

fn permission(report: &mut Report, node: &Node, secrets: &IndexSet<String>) -> Option<Permission> {
    let (name, span, of) = match &node.kind {
        Kind::Scalar { text, .. } => (text.as_str(), node.span.clone(), None),
        Kind::Map(entries) if entries.len() == 1 => {
            (entries[0].key.as_str(), entries[0].key_span.clone(), Some(&entries[0]))
        }
        _ => {
            shape::shape(
                report,
                "permissions",
                node,
                "a list of names and one-key mappings",
                "permissions: [images, { http: [api.example.com] }]",
            );
            return None;
        }
    };
    let list = |report: &mut Report, example: &str| {
        let Some(entry) = of else {
            report
                .add(code::WRONG_SHAPE, span.clone(), format!("`{name}` does not say for what"))
                .help(format!("write `{example}`"));
            return None;
        };
        Some(shape::texts(report, entry, example))
    };
    let plain = |report: &mut Report, permission: Permission| {
        if let Some(entry) = of {
            report
                .add(
                    code::WRONG_SHAPE,
                    entry.key_span.clone(),
                    format!("the permission `{name}` takes no list"),
                )
                .help(format!("write `{name}` alone"));
        }
        Some(permission)
    };
    // A misspelled one is taken for what it seems to mean: otherwise all that needs it would be reported too.
    let name = match PERMISSIONS.contains(&name) {
        true => name,
        false => unknown(report, name, span.clone())?,
    };
    match name {
        "sandboxes" => plain(report, Permission::Sandboxes),
        "images" => plain(report, Permission::Images),
        "volumes" => plain(report, Permission::Volumes),
        "repos" => plain(report, Permission::Repos),
        "scratch" => plain(report, Permission::Scratch),
        "http" => {
            let hosts = list(report, "{ http: [api.example.com] }")?;
            for (host, node) in &hosts {
                if host.is_empty() || host.contains(['/', ' ', '$']) {
                    report
                        .add(code::BAD_VALUE, node.span.clone(), format!("`{host}` is no host"))
                        .help("write the name alone, such as `api.example.com`");
                }
            }
            Some(Permission::Http(hosts.into_iter().map(|(host, _)| host.to_owned()).collect()))
        }
        "reveal" => {
            let names = list(report, "{ reveal: [secret_name] }")?;
            for (name, node) in &names {
                if !secrets.contains(*name) {
                    let help = suggest::help("the secrets are", name, secrets.iter().map(String::as_str));
                    report
                        .add(code::UNKNOWN_SECRET, node.span.clone(), format!("there is no secret `{name}`"))
                        .suggest(help);
                }
            }
            Some(Permission::Reveal(names.into_iter().map(|(name, _)| name.to_owned()).collect()))
        }
        _ => None,
    }
}

fn unknown(report: &mut Report, name: &str, span: std::ops::Range<usize>) -> Option<&'static str> {
    report
        .add(code::UNKNOWN_PERMISSION, span, format!("there is no permission `{name}`"))
        .suggest(suggest::help("the permissions are", name, PERMISSIONS));
    suggest::nearest(name, PERMISSIONS)
}
