//! Reading the operator's files: never more than a cap, and with a look at who
//! else may read a secret.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::variables::ON_A_BOARD;
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_FILES_MAX, PASSWORD_BYTES_MAX};
use crate::secret::Secret;
use crate::text::shell_word;

/// Permission bits by which the group or others read.
const READ_BY_OTHERS: u32 = 0o044;

/// Permission bits by which the group or others read or write.
const USED_BY_OTHERS: u32 = 0o066;

/// Permission bits by which everybody reads or writes.
const USED_BY_ALL: u32 = 0o006;

/// A file's text and who may read it.
pub struct Text {
    /// Where it came from, for messages.
    pub place: Place,
    /// All of it.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

impl Text {
    /// Whether the group or others may read the file.
    pub fn read_by_others(&self) -> bool {
        self.mode & READ_BY_OTHERS != 0
    }

    /// Refuses a file with a password, said at `place`, that everybody may use. A
    /// group is the administrator's choice, and a card's FAT has no permissions.
    pub fn check_private(&self, place: &Place, path: &Path, env: &Env) -> Result<(), ConfigError> {
        if self.mode & USED_BY_ALL == 0 || env.path(ON_A_BOARD).is_some() {
            return Ok(());
        }
        Err(exposed(place, path, self.mode))
    }
}

/// A secret's file that others can use, and the commands that hide it from them and
/// not from us.
fn exposed(place: &Place, path: &Path, mode: u32) -> ConfigError {
    let file = path.display().to_string();
    let word = shell_word(&file);
    let us = rustix::process::geteuid();
    let owner = std::fs::metadata(path).map(|metadata| metadata.uid());
    let is_ours = us.is_root() || owner.is_ok_and(|owner| owner == us.as_raw());
    let remedy = match is_ours {
        true => format!("chmod 600 {word}"),
        false => format!("chown {} {word} && chmod 600 {word}, as root", us.as_raw()),
    };
    ConfigError::Exposed {
        place: place.clone(),
        file,
        mode,
        remedy,
    }
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Text, ConfigError> {
    let place = Place::top(path.display().to_string());
    let (bytes, mode) = read_capped(path, CONFIG_BYTES_MAX, &place)?;
    let utf16 = [&[0xff, 0xfe][..], &[0xfe, 0xff]];
    let why = match utf16.iter().any(|mark| bytes.starts_with(mark)) {
        true => "it is UTF-16 text; save it as UTF-8",
        false => "it is not UTF-8 text; is this the right file?",
    };
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::Unreadable {
        place: place.clone(),
        why: why.into(),
    })?;
    let text = without_mark(&text).to_owned();
    Ok(Text { place, text, mode })
}

/// The text without the mark of its encoding that some editors put before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The YAML files of a folder in the order of their names, as Patroni reads
/// them (4.1.5, `_load_config_path`).
pub fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let place = || Place::top(folder.display().to_string());
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(place(), &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(place(), &error))?.path();
        if is_yaml(&path) && path.is_file() {
            files.push(path);
        }
        if files.len() > CONFIG_FILES_MAX {
            return Err(ConfigError::Unreadable {
                place: place(),
                why: format!("more than {CONFIG_FILES_MAX} YAML files in this folder"),
            });
        }
    }
    if files.is_empty() {
        return Err(ConfigError::Unreadable {
            place: place(),
            why: "a folder without a .yml or .yaml file".into(),
        });
    }
    files.sort();
    Ok(files)
}

/// Whether the name says YAML.
pub fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "yml" || end == "yaml")
}

/// Reads a password from a file named on the command line; see `password_of`.
pub fn read_password(path: &Path, env: &Env) -> Result<Secret, ConfigError> {
    let said = Located {
        value: path.to_path_buf(),
        place: Place::top("--password-file"),
    };
    password_of(&said, env)
}

/// Reads a password: the file's text without its last line end. A file that
/// others can use is refused, except where systemd keeps credentials, a folder
/// private to the service whose files carry an access list that looks like group
/// access.
pub fn password_of(path: &Located<PathBuf>, env: &Env) -> Result<Secret, ConfigError> {
    let name = path.value.display().to_string();
    let invalid = |why: &str| ConfigError::Invalid {
        place: path.place.clone(),
        value: Some(name.clone()),
        why: why.into(),
    };
    let (bytes, mode) = read_capped(
        &path.value,
        PASSWORD_BYTES_MAX,
        &path.place.at(format!("password_file {name}")),
    )?;
    let credential = env
        .path("CREDENTIALS_DIRECTORY")
        .is_some_and(|folder| path.value.starts_with(folder));
    if mode & USED_BY_OTHERS != 0 && !credential {
        return Err(exposed(&path.place, &path.value, mode));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("the password is not UTF-8"))?;
    let text = without_mark(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.contains('\n') {
        return Err(invalid(
            "more than one line; it must hold the password alone",
        ));
    }
    Secret::new(text)
        .ok_or_else(|| invalid("the file is empty; write the cluster's password in it"))
}

/// Opens a file for reading. A pipe with a writer is read to its end, as that of
/// `<(...)`; one without is empty, where a plain `open` would wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{OFlags, fcntl_setfl};
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

fn read_capped(
    path: &Path,
    bytes_max: usize,
    place: &Place,
) -> Result<(Vec<u8>, u32), ConfigError> {
    let failed = |error: io::Error| unreadable(place.clone(), &error);
    let file = open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(ConfigError::TooLarge {
            place: place.clone(),
            bytes_max,
        });
    }
    Ok((bytes, mode))
}

fn unreadable(place: Place, error: &io::Error) -> ConfigError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "no such file; check the path",
        io::ErrorKind::PermissionDenied => "permission denied; give this user read access",
        io::ErrorKind::IsADirectory => "it is a folder; name a file",
        _ => "",
    };
    let why = if remedy.is_empty() {
        error.to_string()
    } else {
        remedy.into()
    };
    ConfigError::Unreadable { place, why }
}
