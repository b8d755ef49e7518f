//! Certificate authorities that a client believes: of a PEM text, or the machine's own.
//!
//! In:    PEM texts; `SSL_CERT_FILE`, `SSL_CERT_DIR` and the files where distributions keep authorities
//! Out:   a store of roots
//! Calls: cluster (the kubeconfig's authority, or the machine's), act (the manifest URL), apiserver, server (whom clients have to be
//!        signed by)
//! Holds: the first file that can be read counts, then every file of the directories; what has no end or is no file is not read
//! Upstream: Go's crypto/x509 (root_unix.go, root_linux.go, `CertPool.AppendCertsFromPEM`)

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_native_certs::{ErrorKind, load_certs_from_paths};

use crate::certificates;

/// Bundles; the first that is there counts.
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Directories; all of their files count.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// Of one file.
const LARGEST: u64 = 8 << 20;
/// Files of one directory.
const MOST: usize = 2000;

/// The authorities of a PEM text, each of which has to be one.
///
/// # Errors
/// There is none, or one that cannot be used; in one line.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The authorities of a PEM text; what cannot be used is left out, as in Go's pools.
///
/// # Errors
/// None can be used.
pub fn usable_authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if roots.is_empty() {
        return Err("certificate authorities: the PEM text holds none that can be used".to_owned());
    }
    Ok(roots)
}

/// Where the machine's authorities are, as far as the environment says it; empty is as good as absent.
///
/// The places are Go's and are tried in Go's order; the crate that reads them has a search of its own, which takes an empty
/// `SSL_CERT_FILE` for a path and forgets the directories beside one that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemRoots {
    /// `SSL_CERT_FILE`: instead of the bundles.
    pub file: Option<OsString>,
    /// `SSL_CERT_DIR`: instead of the directories, several with a colon between them.
    pub directories: Option<OsString>,
}

impl SystemRoots {
    /// By the variables of this process.
    pub fn from_environment() -> Self {
        let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            file: said("SSL_CERT_FILE"),
            directories: said("SSL_CERT_DIR"),
        }
    }

    /// Reads the authorities; `at` says where a path of the machine is. Blocks.
    ///
    /// # Errors
    /// There is none that can be used: why the first place was of no use.
    pub fn read(&self, at: impl Fn(&Path) -> PathBuf) -> Result<RootCertStore, String> {
        let files: Vec<PathBuf> = match &self.file {
            Some(file) => vec![at(Path::new(file))],
            None => FILES.iter().map(|file| at(Path::new(file))).collect(),
        };
        let directories: Vec<PathBuf> = match &self.directories {
            Some(list) => std::env::split_paths(list).map(|path| at(&path)).collect(),
            None => DIRECTORIES.iter().map(|path| at(Path::new(path))).collect(),
        };
        let mut found = Found::default();
        for file in files {
            if found.add(bounded_file(&file), (Some(&file), None)) {
                break;
            }
        }
        for directory in directories {
            found.add(bounded_directory(&directory), (None, Some(&directory)));
        }
        found.roots()
    }
}

/// What was read so far, and the first reason why something was not.
#[derive(Default)]
struct Found {
    certificates: Vec<CertificateDer<'static>>,
    problem: Option<String>,
}

impl Found {
    /// Reads a file or a directory that is within its bounds; says whether it could be read.
    fn add(
        &mut self,
        bounded: Result<(), String>,
        (file, directory): (Option<&Path>, Option<&Path>),
    ) -> bool {
        if let Err(why) = bounded {
            self.problem.get_or_insert(why);
            return false;
        }
        let read = load_certs_from_paths(file, directory);
        self.certificates.extend(read.certs);
        let mut was_read = true;
        for error in read.errors {
            was_read &= !matches!(error.kind, ErrorKind::Io { .. });
            self.problem.get_or_insert_with(|| error.to_string());
        }
        was_read
    }

    fn roots(mut self) -> Result<RootCertStore, String> {
        // Bundles and directories hold most authorities twice: once is enough.
        self.certificates.sort_unstable_by(|a, b| a.cmp(b));
        self.certificates.dedup();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates);
        if !roots.is_empty() {
            return Ok(roots);
        }
        let none = || "the places for them hold none".to_owned();
        Err(self.problem.unwrap_or_else(none))
    }
}

/// A pipe would be waited for, and a device has no end.
fn bounded_file(path: &Path) -> Result<(), String> {
    let said = |why: &str| format!("{}: {why}", path.display());
    let known = std::fs::metadata(path).map_err(|error| said(&error.to_string()))?;
    if !known.is_file() {
        return Err(said("is not a regular file"));
    }
    if known.len() > LARGEST {
        return Err(said(&format!("has more than {LARGEST} bytes")));
    }
    Ok(())
}

fn bounded_directory(path: &Path) -> Result<(), String> {
    let said = |why: &str| format!("{}: {why}", path.display());
    let entries = std::fs::read_dir(path).map_err(|error| said(&error.to_string()))?;
    for (number, entry) in entries.flatten().enumerate() {
        if number == MOST {
            return Err(said(&format!("has more than {MOST} files")));
        }
        let known = std::fs::metadata(entry.path());
        if known.is_ok_and(|known| known.is_file() && known.len() > LARGEST) {
            let name = entry.file_name();
            return Err(said(&format!("{} is too large", name.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;

    use super::*;

    /// A machine's root in a directory.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let own = format!("hyperkube-roots-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(own);
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn at(&self, path: &Path) -> PathBuf {
            self.0.join(path.strip_prefix("/").unwrap_or(path))
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.at(Path::new(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            // A directory that is left over disturbs nobody.
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn authority(name: &str) -> String {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let subject = &mut parameters.distinguished_name;
        *subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    /// Who is in a store, by the letter that is the authority's name.
    fn told(roots: &RootCertStore) -> String {
        let last = |name: &[u8]| name.last().copied().map_or('?', char::from);
        let mut names: Vec<char> = roots.subjects().iter().map(|s| last(s.as_ref())).collect();
        names.sort_unstable();
        names.into_iter().collect()
    }

    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`, and the files that are there.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    #[test]
    fn the_places_are_those_of_go_and_in_its_order() {
        let [a, b, c] = ["a", "b", "c"].map(authority);
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let none: [(&str, &str); 0] = [];
        let rows: [Row<'_>; 16] = [
            ("", "", &none),
            ("", "", &[(bundle, &a)]),
            ("", "", &[("/etc/pki/tls/cacert.pem", &a)]),
            // A bundle ends the search for bundles; the directories count beside it.
            (
                "",
                "",
                &[
                    ("/etc/ssl/ca-bundle.pem", &a),
                    ("/etc/ssl/cert.pem", &b),
                    ("/etc/ssl/certs/own.pem", &c),
                ],
            ),
            ("", "", &[(bundle, ""), ("/etc/ssl/cert.pem", &b)]),
            ("", "", &[(bundle, "no PEM"), ("/etc/ssl/certs/own", &c)]),
            ("", "", &[(bundle, &a), ("/etc/ssl/certs/again.0", &a)]),
            ("/own", "", &[("/own", &a), (bundle, &b)]),
            ("/own", "", &[("/own", &a), ("/etc/ssl/cert.pem", &b)]),
            ("/none", "", &[("/etc/ssl/cert.pem", &b)]),
            ("/none", "", &[("/etc/pki/tls/certs/c", &c)]),
            ("", "/d", &[("/d/one", &a), (bundle, &b)]),
            ("", "/none:/d", &[("/d/one", &a), ("/d/two", &b)]),
            ("/own", "/d", &[("/own", &a), ("/d/b", &b), (bundle, &c)]),
            ("/own", "/d", &[("/etc/ssl/certs/c", &c)]),
            ("/d", "", &[("/d/one", &a)]),
        ];
        let mut out = String::new();
        for (number, (file, directories, puts)) in rows.into_iter().enumerate() {
            let machine = Machine::new(&number.to_string());
            for (path, text) in puts {
                machine.put(path, text);
            }
            let said = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
            let roots = SystemRoots {
                file: said(file),
                directories: said(directories),
            };
            let read = roots.read(|path| machine.at(path));
            let place = machine.0.display().to_string();
            let read = read.map_or_else(|why| why.replace(&place, ""), |roots| told(&roots));
            let puts: Vec<&str> = puts.iter().map(|(path, _)| *path).collect();
            writeln!(out, "{file}|{directories}|{} -> {read}", puts.join(" ")).unwrap();
        }
        expect![[r#"
            || -> /etc/ssl/certs/ca-certificates.crt: No such file or directory (os error 2)
            ||/etc/ssl/certs/ca-certificates.crt -> a
            ||/etc/pki/tls/cacert.pem -> a
            ||/etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /etc/ssl/certs/own.pem -> ac
            ||/etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem -> /etc/pki/tls/certs: No such file or directory (os error 2)
            ||/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/own -> c
            ||/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/again.0 -> a
            /own||/own /etc/ssl/certs/ca-certificates.crt -> ab
            /own||/own /etc/ssl/cert.pem -> a
            /none||/etc/ssl/cert.pem -> /none: No such file or directory (os error 2)
            /none||/etc/pki/tls/certs/c -> c
            |/d|/d/one /etc/ssl/certs/ca-certificates.crt -> ab
            |/none:/d|/d/one /d/two -> ab
            /own|/d|/own /d/b /etc/ssl/certs/ca-certificates.crt -> ab
            /own|/d|/etc/ssl/certs/c -> /own: No such file or directory (os error 2)
            /d||/d/one -> /d: is not a regular file
        "#]].assert_eq(&out);
    }

    #[test]
    fn what_has_no_end_or_is_too_much_is_left_alone() {
        let machine = Machine::new("bounds");
        let own = authority("a");
        machine.put("/d/a", &own);
        let large = std::fs::File::create(machine.at(Path::new("/large"))).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let read = |file: &str, directories: &str| {
            let roots = SystemRoots {
                file: Some(file.into()),
                directories: Some(directories.into()),
            };
            let place = machine.0.display().to_string();
            let at = |path: &Path| match path.starts_with("/dev") {
                true => path.to_owned(),
                false => machine.at(path),
            };
            let read = roots.read(at);
            read.map_or_else(|why| why.replace(&place, ""), |roots| told(&roots))
        };
        let mut out = String::new();
        for file in ["/large", "/dev/zero", "/d"] {
            writeln!(out, "{file}: {}", read(file, "/none")).unwrap();
        }
        writeln!(out, "/large, /d: {}", read("/large", "/d")).unwrap();
        std::fs::rename(
            machine.at(Path::new("/large")),
            machine.at(Path::new("/d/large")),
        )
        .unwrap();
        writeln!(out, "one file of /d: {}", read("/none", "/d")).unwrap();
        for number in 0..=MOST {
            machine.put(&format!("/many/{number}"), "");
        }
        writeln!(out, "/many: {}", read("/many/none", "/many")).unwrap();
        expect![[r#"
            /large: /large: has more than 8388608 bytes
            /dev/zero: /dev/zero: is not a regular file
            /d: /d: is not a regular file
            /large, /d: a
            one file of /d: /none: No such file or directory (os error 2)
            /many: /many/none: No such file or directory (os error 2)
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn one_authority_that_is_none_spoils_a_strict_text_alone() {
        let good = authority("a");
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let both = format!("{good}{junk}");
        let mut out = String::new();
        for (name, pem) in [("good", &*good), ("both", &both), ("junk", junk), ("", "")] {
            let [strict, lenient] = [
                authorities(pem.as_bytes()),
                usable_authorities(pem.as_bytes()),
            ]
            .map(|read| read.map_or_else(|why| why, |roots| told(&roots)));
            writeln!(out, "{name}: {strict} | {lenient}").unwrap();
        }
        expect![[r#"
            good: a | a
            both: invalid peer certificate: BadEncoding | a
            junk: invalid peer certificate: BadEncoding | certificate authorities: the PEM text holds none that can be used
            : no certificate in it | certificate authorities: the PEM text holds none that can be used
        "#]].assert_eq(&out);
    }
}
