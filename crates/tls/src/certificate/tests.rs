//! What is read of certificates: rows of subjects, times and alternative names as Go reads them, and what is refused.
//!
//! In:    certificates put together byte by byte, so that each part can be wrong
//! Out:   –
//! Calls: cargo test
//! Holds: the reader never panics, and never reads a part of a name
//! Upstream: Go's crypto/x509 (parser_test.go), crypto/x509/pkix

use std::fmt::Write as _;

use expect_test::expect;

use super::*;

const BIT_STRING: u8 = 3;
const OCTET_STRING: u8 = 4;
const OID: u8 = 6;
const UTF8: u8 = 12;
const NUMERIC: u8 = 18;
const PRINTABLE: u8 = 19;
const TELETEX: u8 = 20;
const IA5: u8 = 22;
const UTC_TIME: u8 = 23;
const GENERALIZED_TIME: u8 = 24;
const UNIVERSAL: u8 = 28;
const BMP: u8 = 30;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

const CN: u8 = 3;
const O: u8 = 10;
const OU: u8 = 11;

/// One value.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    let mut out = vec![tag];
    match length {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap());
            out.extend_from_slice(long);
        }
    }
    out.extend(content);
    out
}

/// An attribute of a name; `kind` is the last number of its 2.5.4.
fn attribute(kind: u8, tag: u8, text: &[u8]) -> Vec<u8> {
    der(
        SEQUENCE,
        &[&der(OID, &[&[0x55, 4, kind]]), &der(tag, &[text])],
    )
}

/// A set of one attribute.
fn one(kind: u8, tag: u8, text: &[u8]) -> Vec<u8> {
    der(SET, &[&attribute(kind, tag, text)])
}

/// A name of sets.
fn name(sets: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, sets)
}

/// An extension with the alternative names, each with its tag.
fn alternative(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, text)| der(*tag, &[text])).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let value = der(OCTET_STRING, &[&der(SEQUENCE, &names)]);
    der(SEQUENCE, &[&der(OID, &[&[0x55, 0x1d, 17]]), &value])
}

/// What is put together.
struct Parts {
    subject: Vec<u8>,
    times: [(u8, &'static str); 2],
    extensions: Vec<Vec<u8>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            subject: name(&[&one(CN, UTF8, b"someone")]),
            times: [(UTC_TIME, "260203040506Z"), (UTC_TIME, "270203040506Z")],
            extensions: Vec::new(),
        }
    }
}

impl Parts {
    fn made(&self) -> Vec<u8> {
        let ecdsa = der(
            SEQUENCE,
            &[&der(OID, &[b"\x2a\x86\x48\xce\x3d\x04\x03\x02"])],
        );
        let curve = [
            der(OID, &[b"\x2a\x86\x48\xce\x3d\x02\x01"]),
            der(OID, &[b"\x2a\x86\x48\xce\x3d\x03\x01\x07"]),
        ];
        let bits = der(BIT_STRING, &[&[0; 66]]);
        let times = self.times.map(|(tag, text)| der(tag, &[text.as_bytes()]));
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let extensions = match extensions.as_slice() {
            [] => Vec::new(),
            some => der(0xa3, &[&der(SEQUENCE, some)]),
        };
        let body = der(
            SEQUENCE,
            &[
                &der(0xa0, &[&[2, 1, 2]]),
                &[2, 1, 7],
                &ecdsa,
                &name(&[&one(CN, UTF8, b"an authority")]),
                &der(SEQUENCE, &[&times[0], &times[1]]),
                &self.subject,
                &der(SEQUENCE, &[&der(SEQUENCE, &[&curve[0], &curve[1]]), &bits]),
                &extensions,
            ],
        );
        der(SEQUENCE, &[&body, &ecdsa, &bits])
    }

    fn read(&self) -> Result<Certificate, String> {
        Certificate::from_der(&self.made())
    }
}

fn told(read: Result<Certificate, String>, tell: impl Fn(&Certificate) -> String) -> String {
    read.map_or_else(|why| format!("refused: {why}"), |read| tell(&read))
}

#[test]
fn a_subject_is_what_go_reads_or_nobodys() {
    let cn = |text: &str| one(CN, UTF8, text.as_bytes());
    let o = |text: &str| one(O, UTF8, text.as_bytes());
    let typed = |tag: u8, text: &[u8]| name(&[&one(CN, tag, text)]);
    let unit = |tag: u8, text: &[u8]| name(&[&cn("a"), &one(OU, tag, text)]);
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    let rows: Vec<(&str, Vec<u8>)> = vec![
        (
            "name and groups",
            name(&[&o("system:masters"), &o("b"), &cn("admin")]),
        ),
        (
            "several names: the last",
            name(&[&cn("a"), &cn("b"), &o("c")]),
        ),
        ("the last one empty", name(&[&cn("a"), &cn("")])),
        (
            "the same group twice",
            name(&[&cn("a"), &o("g"), &o("g"), &o("")]),
        ),
        (
            "one set for all",
            name(&[&der(
                SET,
                &[&attribute(O, UTF8, b"x"), &attribute(CN, UTF8, b"a")],
            )]),
        ),
        ("no name", name(&[&o("system:masters")])),
        ("nothing", name(&[])),
        (
            "other kinds besides",
            name(&[&cn("a"), &one(6, PRINTABLE, b"DE"), &one(OU, UTF8, b"u")]),
        ),
        ("a zero in it", name(&[&cn("a\0b")])),
        ("umlauts", typed(UTF8, "Jörg".as_bytes())),
        ("no UTF-8", typed(UTF8, b"a\xff")),
        ("printable", typed(PRINTABLE, b"system:node:n-1.x (*&)")),
        ("not printable", typed(PRINTABLE, b"a_b")),
        ("printable with UTF-8", typed(PRINTABLE, "ö".as_bytes())),
        ("numeric", typed(NUMERIC, b"12 3")),
        ("not numeric", typed(NUMERIC, b"1a")),
        ("ASCII", typed(IA5, b"a@b_c")),
        ("not ASCII", typed(IA5, b"\x80")),
        ("teletex is Latin-1", typed(TELETEX, b"J\xf6rg")),
        ("two bytes each", typed(BMP, &wide("Jörg"))),
        ("with a zero at the end", typed(BMP, &wide("a\0"))),
        ("half a character", typed(BMP, b"\0a\0")),
        ("a surrogate", typed(BMP, &wide("😀"))),
        ("never a character", typed(BMP, b"\xff\xfe")),
        ("four bytes each", typed(UNIVERSAL, b"\0\0\0a")),
        ("an octet string", typed(OCTET_STRING, b"a")),
        ("in pieces", typed(UTF8 | 0x20, &der(UTF8, &[b"a"]))),
        ("of another class", typed(UTF8 | 0x80, b"a")),
        ("another kind that is no text", unit(UNIVERSAL, b"\0\0\0u")),
        ("another kind with bad text", unit(UTF8, b"\xff")),
        ("bytes after the sets", name(&[&cn("a"), &[0]])),
        (
            "a set that is cut",
            name(&[&cn("a"), &[SET, 9, SEQUENCE, 7]]),
        ),
        (
            "no set",
            name(&[&cn("a"), &der(SEQUENCE, &[&attribute(O, UTF8, b"g")])]),
        ),
        ("an empty set", name(&[&cn("a"), &der(SET, &[])])),
        (
            "a set with bytes after its attribute",
            name(&[
                &der(SET, &[&attribute(CN, UTF8, b"a"), &[0x30, 9]]),
                &o("g"),
            ]),
        ),
        (
            "an attribute without a value",
            name(&[&der(SET, &[&der(SEQUENCE, &[&der(OID, &[&[0x55, 4, 3]])])])]),
        ),
    ];
    let mut out = String::new();
    for (about, subject) in rows {
        let parts = Parts {
            subject,
            ..Parts::default()
        };
        let told = told(parts.read(), |read| {
            let groups: Vec<&str> = read.subject.organizations().collect();
            format!("{:?} of {groups:?}", read.subject.common_name())
        });
        writeln!(out, "{about}: {told}").unwrap();
    }
    expect![[r#"
        name and groups: "admin" of ["system:masters", "b"]
        several names: the last: "b" of ["c"]
        the last one empty: "" of []
        the same group twice: "a" of ["g", "g", ""]
        one set for all: "a" of ["x"]
        no name: "" of ["system:masters"]
        nothing: "" of []
        other kinds besides: "a" of []
        a zero in it: "a\0b" of []
        umlauts: "Jörg" of []
        no UTF-8: refused: invalid UTF-8 string
        printable: "system:node:n-1.x (*&)" of []
        not printable: refused: invalid PrintableString
        printable with UTF-8: refused: invalid PrintableString
        numeric: "12 3" of []
        not numeric: refused: invalid NumericString
        ASCII: "a@b_c" of []
        not ASCII: refused: invalid IA5String
        teletex is Latin-1: "Jörg" of []
        two bytes each: "Jörg" of []
        with a zero at the end: "a" of []
        half a character: refused: invalid BMPString
        a surrogate: refused: invalid BMPString
        never a character: refused: invalid BMPString
        four bytes each: refused: unsupported string type: 28
        an octet string: refused: unsupported string type: 4
        in pieces: refused: an attribute of the name is no text
        of another class: refused: an attribute of the name is no text
        another kind that is no text: refused: unsupported string type: 28
        another kind with bad text: refused: invalid UTF-8 string
        bytes after the sets: refused: Parsing requires 1 bytes/chars
        a set that is cut: refused: Parsing requires 4 bytes/chars
        no set: refused: Parsing requires 12 bytes/chars
        an empty set: refused: Parsing requires 2 bytes/chars
        a set with bytes after its attribute: refused: nom error: Eof
        an attribute without a value: refused: Parsing requires 9 bytes/chars
    "#]]
    .assert_eq(&out);
}

#[test]
fn times_are_read_on_both_sides_of_2050_and_to_the_end_of_9999() {
    let mut out = String::new();
    for times in [
        [(UTC_TIME, "260203040506Z"), (UTC_TIME, "491231235959Z")],
        [(UTC_TIME, "500101000000Z"), (UTC_TIME, "991231235959Z")],
        [
            (GENERALIZED_TIME, "20500101000000Z"),
            (GENERALIZED_TIME, "23001231235959Z"),
        ],
        [
            (GENERALIZED_TIME, "00010101000000Z"),
            (GENERALIZED_TIME, "99991231235959Z"),
        ],
        // The end before the begin: for its reader to judge.
        [(UTC_TIME, "270101000000Z"), (UTC_TIME, "260101000000Z")],
        [
            (UTC_TIME, "260101000000Z"),
            (GENERALIZED_TIME, "99991331235959Z"),
        ],
        [(UTC_TIME, "260230000000Z"), (UTC_TIME, "270101000000Z")],
        [(UTC_TIME, "260101000000"), (UTC_TIME, "270101000000Z")],
        [(UTC_TIME, "26010100ab00Z"), (UTC_TIME, "270101000000Z")],
        [(UTC_TIME, ""), (UTC_TIME, "270101000000Z")],
        [(UTF8, "260101000000Z"), (UTC_TIME, "270101000000Z")],
    ] {
        let parts = Parts {
            times,
            ..Parts::default()
        };
        let told = told(parts.read(), |read| {
            let Validity {
                not_before,
                not_after,
            } = read.validity;
            format!("{not_before} to {not_after}")
        });
        writeln!(out, "{} {}: {told}", times[0].1, times[1].1).unwrap();
    }
    expect![[r#"
        260203040506Z 491231235959Z: 2026-02-03T04:05:06Z to 2049-12-31T23:59:59Z
        500101000000Z 991231235959Z: 1950-01-01T00:00:00Z to 1999-12-31T23:59:59Z
        20500101000000Z 23001231235959Z: 2050-01-01T00:00:00Z to 2300-12-31T23:59:59Z
        00010101000000Z 99991231235959Z: 0001-01-01T00:00:00Z to 9999-12-30T22:00:00.999999999Z
        270101000000Z 260101000000Z: 2027-01-01T00:00:00Z to 2026-01-01T00:00:00Z
        260101000000Z 99991331235959Z: refused: Parsing Error: InvalidDate
        260230000000Z 270101000000Z: refused: Parsing Error: InvalidDate
        260101000000 270101000000Z: refused: Parsing Error: InvalidDate
        26010100ab00Z 270101000000Z: refused: Parsing Error: InvalidDate
         270101000000Z: refused: Parsing Error: InvalidDate
        260101000000Z 270101000000Z: refused: Parsing Error: InvalidDate
    "#]]
    .assert_eq(&out);
}

#[test]
fn alternative_names_are_read_whole() {
    const MAIL: u8 = 0x81;
    const DNS: u8 = 0x82;
    const URI: u8 = 0x86;
    const IP: u8 = 0x87;
    const REGISTERED: u8 = 0x88;
    let six = "2001:db8::1"
        .parse::<std::net::Ipv6Addr>()
        .unwrap()
        .octets();
    let rows: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("none", vec![]),
        (
            "of each kind",
            vec![alternative(&[
                (DNS, b"a.example"),
                (IP, &[10, 0, 0, 1]),
                (DNS, b"*.b"),
                (IP, &six),
                (MAIL, b"a@b"),
                (URI, b"spiffe://a"),
                (REGISTERED, &[0x55, 4, 3]),
            ])],
        ),
        ("none in the extension", vec![alternative(&[])]),
        (
            "an address of five bytes",
            vec![alternative(&[(IP, &[1, 2, 3, 4, 5])])],
        ),
        (
            "a DNS name that is no ASCII",
            vec![alternative(&[(DNS, b"\xff")])],
        ),
        ("of an unknown kind", vec![alternative(&[(0x8b, b"a")])]),
        (
            "twice",
            vec![alternative(&[(DNS, b"a")]), alternative(&[(DNS, b"b")])],
        ),
        (
            "no sequence",
            vec![der(
                SEQUENCE,
                &[
                    &der(OID, &[&[0x55, 0x1d, 17]]),
                    &der(OCTET_STRING, &[b"\x02\x01\x01"]),
                ],
            )],
        ),
    ];
    let mut out = String::new();
    for (about, extensions) in rows {
        let parts = Parts {
            extensions,
            ..Parts::default()
        };
        let told = told(parts.read(), |read| {
            let AlternativeNames {
                dns,
                ips,
                emails,
                uris,
                others,
            } = &read.names;
            format!("{dns:?} {ips:?} {emails} {uris} {others}")
        });
        writeln!(out, "{about}: {told}").unwrap();
    }
    expect![[r#"
        none: [] [] 0 0 0
        of each kind: ["a.example", "*.b"] [10.0.0.1, 2001:db8::1] 1 1 1
        none in the extension: [] [] 0 0 0
        an address of five bytes: refused: cannot parse IP address of length 5
        a DNS name that is no ASCII: refused: a subjectAltName of kind 2 is invalid
        of an unknown kind: refused: a subjectAltName of kind 11 is invalid
        twice: refused: duplicate extensions
        no sequence: refused: invalid extensions
    "#]]
    .assert_eq(&out);
}

#[test]
fn names_are_looked_up_as_people_write_them() {
    let names = AlternativeNames {
        dns: vec!["a.example".to_owned(), "10.0.0.9".to_owned()],
        ips: vec![[10, 0, 0, 1].into(), "2001:db8::1".parse().unwrap()],
        ..AlternativeNames::default()
    };
    let asked = [
        "a.example",
        "b",
        "10.0.0.1",
        "10.0.0.9",
        "2001:0db8::0001",
        "",
    ];
    let known: Vec<&str> = asked.into_iter().filter(|name| names.has(name)).collect();
    assert_eq!(known, ["a.example", "10.0.0.1", "2001:0db8::0001"]);
}

#[test]
fn a_certificate_says_who_signed_it() {
    let whole = Parts::default().read().unwrap().to_string();
    let by_hand = "a certificate of \"CN=someone\" signed by \"CN=an authority\", good from 2026-02-03T04:05:06Z until 2027-02-03T04:05:06Z";
    assert_eq!(whole, by_hand);
    let subject = name(&[
        &one(O, UTF8, b"g"),
        &one(CN, UTF8, b"a"),
        &one(CN, UTF8, b"b"),
    ]);
    let parts = Parts {
        subject,
        ..Parts::default()
    };
    assert_eq!(parts.read().unwrap().subject.to_string(), "O=g,CN=a,CN=b");
}

#[test]
fn certificates_of_other_makers_are_read() {
    let old = Certificate::from_pem(include_bytes!("../../testdata/version-1.pem")).unwrap();
    assert!(!old.subject.common_name().is_empty(), "{old}");
    let mut wanted = rcgen::CertificateParams::new(vec!["a".to_owned(), "::1".to_owned()]).unwrap();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    let subject = &mut wanted.distinguished_name;
    subject.push(rcgen::DnType::OrganizationName, "system:nodes");
    subject.push(rcgen::DnType::CommonName, "system:node:n");
    let key = rcgen::KeyPair::generate().unwrap();
    let made = wanted.self_signed(&key).unwrap();
    let read = Certificate::from_pem(made.pem().as_bytes()).unwrap();
    assert_eq!(read.subject.to_string(), "O=system:nodes,CN=system:node:n");
    assert_eq!(read.subject, read.issuer);
    assert!(read.names.has("a") && read.names.has("::1"));
    let asked = wanted.serialize_request(&key).unwrap();
    let request = SigningRequest::from_pem(asked.pem().unwrap().as_bytes()).unwrap();
    assert_eq!(request.der, asked.der().as_ref());
    assert_eq!((request.subject, request.names), (read.subject, read.names));
}

#[test]
fn what_is_no_certificate_or_request_is_refused() {
    let mut long = Parts::default().made();
    long.push(0);
    let trailing = Certificate::from_der(&long).unwrap_err();
    assert_eq!(trailing, "trailing data after the certificate");
    let huge = name(&[&one(CN, UTF8, &vec![b'a'; LONGEST])]);
    let parts = Parts {
        subject: huge,
        ..Parts::default()
    };
    assert_eq!(parts.read().unwrap_err(), "longer than 262144 bytes");
    let block = |label: &str| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
    for text in ["", "x", &block("CERTIFICATE"), &block("X509 CRL")] {
        assert!(Certificate::from_pem(text.as_bytes()).is_err(), "{text}");
    }
    let no_request = "PEM block type must be CERTIFICATE REQUEST";
    for (text, why) in [
        ("", no_request),
        (&block("CERTIFICATE"), no_request),
        (&block("NEW CERTIFICATE REQUEST"), no_request),
        (&block("CERTIFICATE REQUEST"), "Parsing requires"),
    ] {
        let said = SigningRequest::from_pem(text.as_bytes()).unwrap_err();
        assert!(said.starts_with(why), "{text}: {said}");
    }
}

#[test]
fn cut_and_changed_certificates_are_refused_or_read_without_a_panic() {
    let parts = Parts {
        subject: name(&[&one(O, UTF8, b"g"), &one(CN, BMP, b"\0a\0b")]),
        extensions: vec![alternative(&[(0x82, b"a"), (0x87, &[1, 2, 3, 4])])],
        ..Parts::default()
    };
    let whole = parts.made();
    Certificate::from_der(&whole).unwrap();
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap();
        assert!(Certificate::from_der(cut).is_err(), "cut to {length}");
    }
    for at in 0..whole.len() {
        for byte in [0x00, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut changed = whole.clone();
            if let Some(old) = changed.get_mut(at) {
                *old = byte;
            }
            let _any_answer = Certificate::from_der(&changed);
        }
    }
}
