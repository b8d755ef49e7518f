//! The time zone of the logs, determined as Go's `time.Local`.
//!
//! In:    the variable TZ; `/etc/localtime`; the system's zone files
//! Out:   a time zone; UTC if none can be read
//! Calls: `logs.rs`, once
//! Holds: files are read once, at start; formatting a line needs a table lookup and no lock
//! Upstream: Go's time package (zoneinfo_unix.go, zoneinfo_read.go)

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use kubelet_host::files::read_bounded;

/// The directories of zone files.
const ZONES: [&str; 4] = [
    "usr/share/zoneinfo",
    "usr/share/lib/zoneinfo",
    "usr/lib/locale/TZ",
    "etc/zoneinfo",
];

/// Zone files are a few kilobytes; a larger file is not one.
const LARGEST: u64 = 10 << 20;

/// The time zone of this process.
pub(super) fn local() -> TimeZone {
    let wish = std::env::var("TZ").ok();
    find(wish.as_deref(), Path::new("/"))
}

/// Without the variable `/etc/localtime`; if it is empty, UTC; otherwise a path, or a name below one of [`ZONES`].
fn find(wish: Option<&str>, root: &Path) -> TimeZone {
    let wish = wish.map(|wish| wish.strip_prefix(':').unwrap_or(wish));
    let files: Vec<PathBuf> = match wish {
        None => vec![root.join("etc/localtime")],
        Some("") => Vec::new(),
        Some(path) if path.starts_with('/') => vec![root.join(path.trim_start_matches('/'))],
        Some(name) if name.split('/').any(|part| part == "..") => Vec::new(),
        Some(name) => ZONES.iter().map(|dir| root.join(dir).join(name)).collect(),
    };
    files
        .iter()
        .find_map(|file| read(file))
        .unwrap_or(TimeZone::UTC)
}

fn read(file: &Path) -> Option<TimeZone> {
    TimeZone::tzif("Local", &read_bounded(file, LARGEST).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// A zone file with one offset, in hours east of Greenwich.
    fn zone_file(hours: i32) -> Vec<u8> {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        block.extend((hours * 3600).to_be_bytes());
        block.extend([0, 0]);
        block.extend(*b"XYZ\0");
        let mut file = block.repeat(2);
        file.extend(format!("\nXYZ{}\n", -hours).into_bytes());
        file
    }

    #[test]
    fn the_zone_is_the_one_that_go_would_take() {
        let root = std::env::temp_dir().join(format!("hyperkube-zone-{}", std::process::id()));
        for dir in ["etc", "usr/share/zoneinfo/Europe", "etc/zoneinfo"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("etc/localtime"), zone_file(3)).unwrap();
        std::fs::write(root.join("usr/share/zoneinfo/Europe/Here"), zone_file(1)).unwrap();
        std::fs::write(root.join("etc/zoneinfo/Late"), zone_file(-5)).unwrap();
        std::fs::write(root.join("etc/noise"), "no zone").unwrap();
        let rows = [
            (None, 3),
            (Some(""), 0),
            (Some(":"), 0),
            (Some("Europe/Here"), 1),
            (Some(":Europe/Here"), 1),
            (Some("Late"), -5),
            (Some("/etc/localtime"), 3),
            (Some("/etc/noise"), 0),
            (Some("No/Such"), 0),
            (Some("../../etc/localtime"), 0),
        ];
        for (wish, hours) in rows {
            let offset = find(wish, &root).to_offset(Timestamp::UNIX_EPOCH);
            assert_eq!(offset.seconds(), hours * 3600, "{wish:?}");
        }
        std::fs::remove_file(root.join("etc/localtime")).unwrap();
        assert_eq!(
            find(None, &root).to_offset(Timestamp::UNIX_EPOCH).seconds(),
            0
        );
        std::fs::remove_dir_all(root).unwrap();
    }
}
