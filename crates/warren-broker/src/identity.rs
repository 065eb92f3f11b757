//! Who this node is: a number drawn at its first start and kept in its data directory, never derived from a host name.

use std::io::Write as _;
use std::path::Path;

use warren_types::NodeId;

use crate::broker::random;

/// The file, in the data directory.
const FILE: &str = "node-id";

/// There once the store is: a node that finds no store then must not begin a new one under its old id.
const STORE_MADE: &str = "store-made";

/// When the node last began.
const LAST_START: &str = "last-start";

/// Why a node cannot tell who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {directory}: {error}")]
    Directory {
        /// The directory.
        directory: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is there but is not a node id.
    #[error("{file} does not hold a node id")]
    Damaged {
        /// The file.
        file: String,
    },
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Reads the node's id, or draws it at the first start. The second value says whether this is the first start.
///
/// # Errors
/// [`IdentityError`].
pub(crate) fn load_or_draw(directory: &Path) -> Result<(NodeId, bool), IdentityError> {
    let failed = |error| IdentityError::Directory { directory: directory.display().to_string(), error };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(id) if id != 0 => Ok((NodeId(id), false)),
            Ok(_) | Err(_) => Err(IdentityError::Damaged { file: path.display().to_string() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let node = draw()?;
            replace(directory, node).map_err(failed)?;
            Ok((node, true))
        }
        Err(error) => Err(failed(error)),
    }
}

/// A number that no other node has.
///
/// # Errors
/// [`IdentityError::Random`].
pub(crate) fn draw() -> Result<NodeId, IdentityError> {
    Ok(NodeId(u64::from_be_bytes(random().map_err(IdentityError::Random)?).max(1)))
}

/// Keeps a number as the node's own from now on.
///
/// # Errors
/// What the system says.
pub(crate) fn replace(directory: &Path, node: NodeId) -> std::io::Result<()> {
    keep(directory, FILE, &format!("{:016x}", node.0))
}

/// Writes a small file, a line of text: renamed into place once it is on disk, so that a crash leaves no half of it.
///
/// # Errors
/// What the system says.
pub(crate) fn keep(directory: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let draft = directory.join(format!("{name}.new"));
    let mut file = std::fs::File::create(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&draft, directory.join(name))?;
    sync(directory)
}

/// What was renamed, made or removed in a directory is so on disk, too.
///
/// # Errors
/// What the system says.
pub(crate) fn sync(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory).and_then(|directory| directory.sync_all())
}

/// Whether this node's store has been made before. It is not the same as a first start: a node may die between the two.
#[must_use]
pub(crate) fn has_store(directory: &Path) -> bool {
    directory.join(STORE_MADE).exists()
}

/// Remembers that the store is there from now on.
///
/// # Errors
/// [`IdentityError::Directory`].
pub(crate) fn note_store(directory: &Path) -> Result<(), IdentityError> {
    if has_store(directory) {
        return Ok(());
    }
    let failed = |error| IdentityError::Directory { directory: directory.display().to_string(), error };
    let file = std::fs::File::create(directory.join(STORE_MADE)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    sync(directory).map_err(failed)
}

/// The next start may make a store.
///
/// # Errors
/// What the system says.
pub(crate) fn forget_store(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(directory.join(STORE_MADE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Which start of the node this is: the clock's milliseconds, but always higher than at the start before, whatever the
/// clock says; the cluster refuses a start that seems older than one it knows.
///
/// # Errors
/// [`IdentityError::Directory`].
pub(crate) fn begin(directory: &Path, now: u64) -> Result<u64, IdentityError> {
    let failed = |error| IdentityError::Directory { directory: directory.display().to_string(), error };
    let last = std::fs::read_to_string(directory.join(LAST_START))
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let incarnation = now.max(last.unwrap_or(0).saturating_add(1));
    keep(directory, LAST_START, &incarnation.to_string()).map_err(failed)?;
    Ok(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id_and_refuses_a_damaged_one() {
        let directory = tempfile::tempdir().unwrap();
        let (id, first) = load_or_draw(directory.path()).unwrap();
        assert!(first);
        assert_eq!(load_or_draw(directory.path()).unwrap(), (id, false));
        std::fs::write(directory.path().join(FILE), "nonsense").unwrap();
        assert!(matches!(load_or_draw(directory.path()), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn a_store_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!has_store(directory.path()));
        note_store(directory.path()).unwrap();
        note_store(directory.path()).unwrap();
        assert!(has_store(directory.path()));
    }

    #[test]
    fn a_later_start_is_higher_even_when_the_clock_went_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(begin(directory.path(), 1000).unwrap(), 1000);
        assert_eq!(begin(directory.path(), 500).unwrap(), 1001);
        assert_eq!(begin(directory.path(), 5000).unwrap(), 5000);
    }
}
