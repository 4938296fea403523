//! The documents of the OCI image format, and Docker's of the same shape: indexes, manifests, configurations. Whoever
//! wrote them may be hostile: they are read with limits, and no field of theirs becomes a path.

use super::invalid;
use crate::capability::Result;
use crate::id::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one document. Registries agree on this limit for manifests.
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Layers of one image: as many as Docker allows. The kernel stacks up to 500.
const LAYERS_LIMIT: usize = 127;
/// The platform whose images run here.
pub(super) const PLATFORM: (&str, &str) = ("linux", "amd64");
/// Label that keeps an image's read-only directories, which the format has no field for: a JSON array of paths.
pub(super) const READ_ONLY_LABEL: &str = "harvest.read-only";
/// Annotation with the name of an image in a layout.
pub(super) const NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is asked for, all of which [`Document::parse`] reads.
pub(super) const ACCEPTED: [&str; 4] = [INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// Names a blob by its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        let media_type = media_type.to_owned();
        Self { media_type, digest: digest.to_string(), size, platform: None, annotations: None }
    }

    pub(super) fn digest(&self) -> Result<Digest> {
        parse_digest(&self.digest)
    }
}

/// Reads a digest as the format writes it.
pub(super) fn parse_digest(text: &str) -> Result<Digest> {
    let parsed = text.strip_prefix("sha256:").and_then(Digest::parse);
    parsed.ok_or_else(|| invalid(format!("`{}` is no sha256 digest", text.escape_debug())))
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub(super) struct ImageManifest {
    pub(super) config: Descriptor,
    /// Lowest first.
    pub(super) layers: Vec<Descriptor>,
}

/// What stands behind a name: an image, or a choice of them.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(ImageManifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    schema_version: u32,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads an index or a manifest.
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        let fields: Fields = serde_json::from_slice(json)
            .map_err(|error| invalid(format!("the image's manifest is malformed: {error}")))?;
        if fields.schema_version != 2 {
            let version = fields.schema_version;
            return Err(invalid(format!("the image's manifest has version {version}; only 2 is understood")));
        }
        match (fields.manifests, fields.config, fields.layers) {
            (Some(manifests), None, None) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => ImageManifest::check(config, layers).map(Self::Manifest),
            // One that is both would be two different images to two readers.
            _ => Err(invalid("the image's manifest is neither an index nor that of an image")),
        }
    }
}

impl ImageManifest {
    fn check(config: Descriptor, layers: Vec<Descriptor>) -> Result<Self> {
        if ![CONFIG, DOCKER_CONFIG].contains(&&*config.media_type) {
            let media_type = config.media_type.escape_debug();
            return Err(invalid(format!("this is no container image, but something of type `{media_type}`")));
        }
        for layer in &layers {
            let media_type = &layer.media_type;
            if !media_type.contains(".tar") || media_type.contains("encrypted") {
                let media_type = media_type.escape_debug();
                return Err(invalid(format!("a layer of type `{media_type}` is no readable file tree")));
            }
        }
        Ok(Self { config, layers })
    }
}

/// The entry of an index that runs here. What there is instead is named where none does.
pub(super) fn choose(entries: &[Descriptor]) -> Result<&Descriptor> {
    let runs_here = |entry: &&Descriptor| {
        entry.platform.as_ref().is_none_or(|found| (&*found.os, &*found.architecture) == PLATFORM)
    };
    let usable: Vec<&Descriptor> = entries.iter().filter(runs_here).collect();
    // A variant of a platform asks for more of the processor than its name alone.
    let plain =
        usable.iter().copied().filter(|entry| entry.platform.as_ref().is_none_or(|p| p.variant.is_none()));
    let plain: Vec<&Descriptor> = plain.collect();
    let candidates = if plain.is_empty() { &usable } else { &plain };
    let distinct: BTreeSet<&str> = candidates.iter().map(|entry| &*entry.digest).collect();
    match candidates.first() {
        Some(first) if distinct.len() == 1 => Ok(first),
        Some(_) => {
            let names = listed(
                candidates.iter().filter_map(|entry| entry.annotations.as_ref()?.get(NAME_ANNOTATION)),
            );
            Err(invalid(format!("this holds several images ({names}); save the one that is meant alone")))
        }
        None => Err(other_platforms(entries.iter().filter_map(|entry| entry.platform.as_ref()))),
    }
}

fn other_platforms<'a>(platforms: impl Iterator<Item = &'a Platform>) -> crate::capability::CapabilityError {
    let names: Vec<String> = platforms
        .filter(|platform| platform.os != "unknown")
        .map(|platform| {
            let variant = platform.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
            format!("{}/{}{variant}", platform.os, platform.architecture)
        })
        .collect();
    let (os, architecture) = PLATFORM;
    invalid(format!("there is no image for {os}/{architecture}; there is {}", listed(names.iter())))
}

/// Names for a message: few, and without what would change the terminal.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<String> = names.take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    if names.is_empty() { "nothing with a name".into() } else { names.join(", ") }
}

/// What an image says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Configuration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) config: Option<Settings>,
    pub(super) rootfs: RootFs,
}

/// How programs of the image start. What harvest has no use for (its entry point, its ports) is not read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Digests of the unpacked archives, lowest first.
    pub(super) diff_ids: Vec<String>,
}

impl Configuration {
    /// Reads it; that it is for this platform and that it goes with so many layers is checked.
    pub(super) fn parse(json: &[u8], layers: usize) -> Result<Self> {
        let parsed: Self = serde_json::from_slice(json)
            .map_err(|error| invalid(format!("the image's configuration is malformed: {error}")))?;
        let platform =
            Platform { os: parsed.os.clone(), architecture: parsed.architecture.clone(), variant: None };
        if (&*parsed.os, &*parsed.architecture) != PLATFORM {
            return Err(other_platforms([&platform].into_iter()));
        }
        if parsed.rootfs.diff_ids.len() != layers {
            let named = parsed.rootfs.diff_ids.len();
            return Err(invalid(format!(
                "the image has {layers} layers, and names {named} in its configuration"
            )));
        }
        match layers {
            0 => Err(invalid("the image has no layers, so nothing could run in it")),
            1..=LAYERS_LIMIT => Ok(parsed),
            _ => {
                Err(invalid(format!("the image has {layers} layers; at most {LAYERS_LIMIT} can be stacked")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn entries(platforms: &[(&str, &str, &str)]) -> Vec<Descriptor> {
        let entry = |(number, (os, architecture, variant)): (usize, &(&str, &str, &str))| Descriptor {
            platform: (!os.is_empty()).then(|| Platform {
                os: (*os).into(),
                architecture: (*architecture).into(),
                variant: (!variant.is_empty()).then(|| (*variant).into()),
            }),
            ..Descriptor::new(MANIFEST, &Digest::of(&[number as u8]), 1)
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_platform_of_this_machine_is_chosen_or_what_there_is_named() {
        let many = entries(&[("linux", "arm64", "v8"), ("linux", "amd64", "v3"), ("linux", "amd64", "")]);
        assert_eq!(choose(&many).unwrap().digest().unwrap(), Digest::of(&[2]));
        let one = entries(&[("", "", "")]);
        assert_eq!(choose(&one).unwrap().digest().unwrap(), Digest::of(&[0]));
        let none = entries(&[("linux", "arm64", "v8"), ("windows", "amd64", ""), ("unknown", "unknown", "")]);
        let said = choose(&none).unwrap_err().message;
        assert_eq!(said, "there is no image for linux/amd64; there is linux/arm64/v8, windows/amd64");
        let two = entries(&[("", "", ""), ("", "", "")]);
        assert!(choose(&two).unwrap_err().message.contains("several images"));
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_reason() {
        let layer = json!({ "mediaType": LAYER, "digest": DIGEST, "size": 1 });
        let config = |kind: &str| json!({ "mediaType": kind, "digest": DIGEST, "size": 1 });
        for (document, words) in [
            (json!({ "schemaVersion": 1 }), "version 1"),
            (json!({ "schemaVersion": 2 }), "neither an index nor"),
            (
                json!({ "schemaVersion": 2, "manifests": [], "config": config(CONFIG), "layers": [layer] }),
                "neither an index nor",
            ),
            (
                json!({ "schemaVersion": 2, "config": config("application/vnd.cncf.helm.config.v1+json"), "layers": [] }),
                "no container image",
            ),
            (
                json!({ "schemaVersion": 2, "config": config(CONFIG), "layers": [config("text/plain")] }),
                "no readable file tree",
            ),
            (
                json!({ "schemaVersion": 2, "config": { "mediaType": CONFIG, "digest": DIGEST, "size": -1 }, "layers": [] }),
                "malformed",
            ),
        ] {
            let said = Document::parse(&serde_json::to_vec(&document).unwrap()).unwrap_err().message;
            assert!(said.contains(words), "{said}");
        }
        assert!(parse_digest("sha512:00").is_err() && parse_digest(&DIGEST[7..]).is_err());
    }

    #[test]
    fn a_configuration_must_fit_its_manifest_and_this_platform() {
        let config = |architecture: &str, layers: usize| {
            let document = json!({
                "os": "linux", "architecture": architecture,
                "rootfs": { "type": "layers", "diff_ids": vec![DIGEST; layers] },
            });
            Configuration::parse(&serde_json::to_vec(&document).unwrap(), layers.max(1))
        };
        assert!(config("amd64", 2).is_ok());
        for (architecture, layers, words) in
            [("arm64", 1, "there is linux/arm64"), ("amd64", 0, "names 0"), ("amd64", 128, "at most 127")]
        {
            let said = config(architecture, layers).unwrap_err().message;
            assert!(said.contains(words), "{said}");
        }
    }
}
