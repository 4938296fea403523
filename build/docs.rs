//! What a component's WIT says of its functions and types, put into the component: the section `package-docs`, which
//! whoever decodes a component reads. Without it `harvest lsp` would have nothing to show. Changes no code.

use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{PackageMetadata, Resolve, UnresolvedPackageGroup, World, WorldItem, WorldKey};

/// The name that decoders give to the world of a component.
const WORLD: &str = "root";

/// The component with the documentation of the WIT package in `own`, whose dependencies are in directories of `shared`.
pub(crate) fn embed(component: Vec<u8>, own: &Path, shared: &Path) -> Result<Vec<u8>, String> {
    let mut section = documentation(own, shared)?;
    let version = section.remove(0);
    let mut package: Value = serde_json::from_slice(&section).map_err(|error| error.to_string())?;
    let mut worlds = package["worlds"].as_object_mut().map(std::mem::take).unwrap_or_default();
    let Some(mut world) = worlds.values_mut().next().map(Value::take) else { return Ok(component) };
    let (resolve, id) = world_of(&component)?;
    keep_what_exists(&mut world, &resolve.worlds[id]);
    let docs = Value::Object(Map::from_iter([(
        "worlds".to_owned(),
        Value::Object(Map::from_iter([(WORLD.to_owned(), world)])),
    )]));
    let mut described = component;
    append(&mut described, PackageMetadata::SECTION_NAME, version, docs.to_string().as_bytes());
    // Decoders refuse a component whose documentation is of something else.
    world_of(&described)?;
    Ok(described)
}

/// The section of the WIT package itself: a byte for the version, then JSON.
fn documentation(own: &Path, shared: &Path) -> Result<Vec<u8>, String> {
    let parse = |path: &Path| UnresolvedPackageGroup::parse_dir(path).map_err(|error| format!("{error:#}"));
    let mut packages: Vec<_> = fs::read_dir(shared)
        .map_err(|error| format!("cannot list {}: {error}", shared.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    packages.sort();
    let packages = packages.iter().map(|path| parse(path)).collect::<Result<Vec<_>, _>>()?;
    let mut resolve = Resolve::default();
    let package = resolve.push_groups(parse(own)?, packages).map_err(|error| error.to_string())?;
    PackageMetadata::extract(&resolve, package).encode().map_err(|error| format!("{error:#}"))
}

fn world_of(component: &[u8]) -> Result<(Resolve, wit_parser::WorldId), String> {
    match decode(component).map_err(|error| format!("{error:#}"))? {
        DecodedWasm::Component(resolve, world) => Ok((resolve, world)),
        DecodedWasm::WitPackage(..) => Err("it is a WIT package, which has no code".into()),
    }
}

/// A component has only those types of its WIT that its functions use.
fn keep_what_exists(documented: &mut Value, world: &World) {
    let Some(documented) = documented.as_object_mut() else { return };
    documented.retain(|key, _| ["docs", "types", "func_exports"].contains(&key.as_str()));
    let key = |name: &str| WorldKey::Name(name.to_owned());
    if let Some(types) = documented.get_mut("types").and_then(Value::as_object_mut) {
        types.retain(|name, _| matches!(world.imports.get(&key(name)), Some(WorldItem::Type { .. })));
    }
    if let Some(functions) = documented.get_mut("func_exports").and_then(Value::as_object_mut) {
        functions.retain(|name, _| matches!(world.exports.get(&key(name)), Some(WorldItem::Function(_))));
    }
}

/// Appends a custom section: 0, length, name, content.
fn append(component: &mut Vec<u8>, name: &str, version: u8, json: &[u8]) {
    let mut content = Vec::new();
    leb128(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.push(version);
    content.extend_from_slice(json);
    component.push(0);
    leb128(component, content.len());
    component.extend_from_slice(&content);
}

fn leb128(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
