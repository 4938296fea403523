//! Signatures of commits with an SSH key, as `gpg.format = ssh` has them. The key stays in memory; no program is run.

use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use ssh_key::{HashAlg, LineEnding, PrivateKey};

/// What the signatures of git are for, in the words of OpenSSH.
const NAMESPACE: &str = "git";
/// Largest text signed, in bytes: a commit without its tree.
const LONGEST: usize = 1 << 20;

/// Signs `payload` with an OpenSSH private key. `invalid` says what is wrong with the key, and never shows it.
pub fn sign(key: &Secret, payload: &[u8]) -> Result<String> {
    let invalid = |what: String| {
        CapabilityError::new(
            ErrorKind::INVALID,
            format!("cannot sign with the secret {}: {what}", key.name()),
        )
    };
    if payload.len() > LONGEST {
        return Err(invalid(format!("a commit has more than {} MiB", LONGEST >> 20)));
    }
    let wanted = "it must be an OpenSSH private key (Ed25519, or ECDSA on P-256 or P-384)";
    let private = PrivateKey::from_openssh(format!("{}\n", key.expose().trim()))
        .map_err(|error| invalid(format!("{wanted}: {error}")))?;
    if private.is_encrypted() {
        return Err(invalid("it has a passphrase; store it without one".into()));
    }
    let signed = private
        .sign(NAMESPACE, HashAlg::Sha512, payload)
        .map_err(|error| invalid(format!("{wanted}: {error}")))?;
    signed.to_pem(LineEnding::LF).map_err(|error| invalid(error.to_string()))
}
