//! A first `.env`, with a secret that nobody else has.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rand::RngExt as _;

const SECRET: &str = "STRIPE_WEBHOOK_SECRET=";

/// Writes `.env` in the folder from its `.env.example`, with a fresh signing secret, readable by its owner only. Leaves
/// one that exists alone. Answers whether it wrote.
pub fn write_first(folder: &Path) -> io::Result<bool> {
    let example = match fs::read_to_string(folder.join(".env.example")) {
        Ok(example) => example,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => SECRET.to_owned(),
        Err(fault) => return Err(fault),
    };
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(".env"));
    match created {
        Ok(mut file) => {
            file.write_all(with_secret(&example, &fresh_secret()).as_bytes())?;
            Ok(true)
        }
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn with_secret(example: &str, secret: &str) -> String {
    example
        .lines()
        .map(|line| {
            if line.starts_with(SECRET) {
                format!("{SECRET}{secret}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}

fn fresh_secret() -> String {
    let random: [u8; 32] = rand::rng().random();
    format!("whsec_{}", hex::encode(random))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_first_env_file_has_a_fresh_secret_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let example = "# the secret\nSTRIPE_WEBHOOK_SECRET=\n# ROUTE_WARNING=false\n";
        fs::write(folder.path().join(".env.example"), example).unwrap();

        assert!(write_first(folder.path()).unwrap());

        let path = folder.path().join(".env");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines[0], lines[2]),
            ("# the secret", "# ROUTE_WARNING=false")
        );
        let secret = lines[1]
            .strip_prefix("STRIPE_WEBHOOK_SECRET=whsec_")
            .unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn an_env_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".env"), "MINE=1\n").unwrap();

        assert!(!write_first(folder.path()).unwrap());

        let text = fs::read_to_string(folder.path().join(".env")).unwrap();
        assert_eq!(text, "MINE=1\n");
    }

    #[test]
    fn two_secrets_differ() {
        assert_ne!(fresh_secret(), fresh_secret());
    }
}
