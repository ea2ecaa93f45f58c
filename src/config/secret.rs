//! Secrets that come from files: read once, trimmed, and never shown.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{ConfigError, Notice};

/// Shortest secret in bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// Bytes that do not show up in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// What nodes on one machine share when nobody gave them a secret. It protects nothing.
    pub(super) fn development() -> Self {
        Self(
            b"quorate development secret for loopback only"
                .as_slice()
                .into(),
        )
    }

    /// The bytes, for whoever has to compare or derive from them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a secret, and says if others on the machine could read it as well.
pub(super) fn read(
    flag: &'static str,
    path: &Path,
    notices: &mut Vec<Notice>,
) -> Result<Secret, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        flag,
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(unreadable)?;
    let mode = std::fs::metadata(path)
        .map_err(unreadable)?
        .permissions()
        .mode();
    let secret = text.trim_ascii();
    if secret.len() < MIN_SECRET_BYTES {
        return Err(ConfigError::SecretTooShort {
            flag,
            path: path.to_owned(),
            bytes: secret.len(),
        });
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(ConfigError::SecretNotText {
            flag,
            path: path.to_owned(),
        });
    }
    if mode & 0o077 != 0 {
        notices.push(Notice::SecretReadableByOthers {
            flag,
            path: path.to_owned(),
        });
    }
    Ok(Secret(secret.into()))
}
