//! Upstream's tables of valid and invalid names.
//!
//! Holds: every row is accepted or refused as upstream does
//! Upstream: apimachinery/pkg/util/validation/validation_test.go, api/validate/content/kube_test.go,
//!           pkg/apis/core/validation/validation_test.go

use super::*;

/// A check, valid values, invalid values.
type Row<'a> = (&'a str, fn(&str) -> bool, &'a [&'a str], &'a [&'a str]);

#[rustfmt::skip]
const ROWS: &[Row<'static>] = &[
    ("dns_label", |value| dns_label(value).is_empty(), &[
        "a", "ab", "abc", "a1", "a-1", "a--1--2--b", "0", "01", "012", "1a", "1-a", "1--a--b--2",
    ], &[
        "", "A", "ABC", "aBc", "A1", "A-1", "1-A", "-", "a-", "-a", "1-", "-1", "_", "a_", "_a", "a_b", "1_", "_1",
        "1_2", ".", "a.", ".a", "a.b", "1.", ".1", "1.2", " ", "a ", " a", "a b", "1 ", " 1", "1 2",
    ]),
    ("dns_subdomain", |value| dns_subdomain(value).is_empty(), &[
        "a", "ab", "abc", "a1", "a-1", "a--1--2--b", "0", "01", "012", "1a", "1-a", "1--a--b--2", "a.a", "ab.a",
        "abc.a", "a1.a", "a-1.a", "a--1--2--b.a", "a.1", "ab.1", "abc.1", "a1.1", "a-1.1", "a--1--2--b.1", "0.a",
        "01.a", "012.a", "1a.a", "1-a.a", "1--a--b--2", "0.1", "01.1", "012.1", "1a.1", "1-a.1", "1--a--b--2.1",
        "a.b.c.d.e", "aa.bb.cc.dd.ee", "1.2.3.4.5", "11.22.33.44.55",
    ], &[
        "", "A", "ABC", "aBc", "A1", "A-1", "1-A", "-", "a-", "-a", "1-", "-1", "_", "a_", "_a", "a_b", "1_", "_1",
        "1_2", ".", "a.", ".a", "a..b", "1.", ".1", "1..2", " ", "a ", " a", "a b", "1 ", " 1", "1 2", "A.a",
        "aB.a", "ab.A", "A1.a", "a1.A", "A.1", "aB.1", "A1.1", "1A.1", "0.A", "01.A", "012.A", "1A.a", "1a.A",
        "A.B.C.D.E", "AA.BB.CC.DD.EE", "a.B.c.d.e", "aa.bB.cc.dd.ee", "a@b", "a,b", "a_b", "a;b", "a:b", "a%b",
        "a?b", "a$b",
    ]),
    ("port_name", |value| port_name(value).is_empty(), &[
        "telnet", "re-mail-ck", "pop3", "a", "a-1", "1-a", "a-1-b-2-c", "1-a-2-b-3",
    ], &[
        "longerthan15characters", "", "aaaaaaaaaaaaaaaa", "12345", "1-2-3-4", "-begin", "end-", "two--hyphens",
        "whois++",
    ]),
    ("header_name", |value| header_name(value).is_empty(), &[
        "Accept-Encoding", "Host", "If-Modified-Since", "X-Forwarded-For", "a", "ab", "abc", "a1", "-a", "a-",
        "a-b", "a-1", "a--1--2--b", "--abc-123", "A", "AB", "AbC", "A1", "-A", "A-", "A-B", "A-1", "A--1--2--B",
        "--123-ABC",
    ], &[
        "Host:", "X-Forwarded-For:", "X-@Home", "", "_", "a_", "_a", "1_", "1_2", ".", "a.", ".a", "a.b", "1.",
        ".1", "1.2", " ", "a ", " a", "a b", "1 ", " 1", "1 2", "#a#", "^", ",", ";", "=", "<", "?", "@", "{",
    ]),
    ("env_name", |value| env_name(value).is_empty(), &[
        "-", ":", "_", "+a", ">a", "<a", "a.", "a..", "*a", "%a", "?a", "a:a", "a_a", "aAz", "~a", "|a", "a0a",
        "a9", "/a", "a ", "#a", "0a", "0 a", "'a", "(a", "@a",
    ], &[
        "", "=", "a=", "1=a", "a=b", "#%=&&", "\u{1}abc", "\u{82}abc", "\u{c7} \u{e7}", "\u{c4} \u{e4}",
        "\u{d1} \u{f1}", "\u{d8} \u{f8}",
    ]),
    ("label_key", |value| label_key(value).is_empty(), &[
        "simple", "now-with-dashes", "1-starts-with-num", "1234", "simple/simple", "now-with-dashes/simple",
        "now-with-dashes/now-with-dashes", "now.with.dots/simple", "now-with.dashes-and.dots/simple",
        "1-num.2-num/3-num", "1234/5678", "1.2.3.4/5678", "Uppercase_Is_OK_123", "example.com/Uppercase_Is_OK_123",
        "requests.storage-foo",
    ], &[
        "nospecialchars%^=@", "cantendwithadash-", "-cantstartwithadash-", "only/one/slash", "Example.com/abc",
        "example_com/abc", "example.com/", "/simple",
    ]),
    ("label_value", |value| label_value(value).is_empty(), &[
        "simple", "now-with-dashes", "1-starts-with-num", "end-with-num-1", "1234", "",
    ], &[
        "nospecialchars%^=@", "Tama-nui-te-r\u{101}.is.M\u{101}ori.sun", "\\backslashes\\are\\bad",
        "-starts-with-dash", "ends-with-dash-", ".starts.with.dot", "ends.with.dot.",
    ]),
    ("sysctl", sysctl_name, &[
        "a.b.c.d", "a", "a_b", "a-b", "abc", "abc.def", "a/b/c/d", "a/b.c",
    ], &[
        "", "*", "\u{e4}", "a_", "_", "__", "_a", "_a._b", "-", ".", "a.", ".a", "a.b.", "a*.b", "a*b", "*a",
        "a.*", "*", "abc*", "a.abc*", "a.b.*", "Abc", "/", "/a", "a/abc*", "a/b/*",
    ]),
];

#[test]
fn names_are_taken_and_refused_as_upstream_does() {
    for (check, good, taken, refused) in ROWS {
        for value in *taken {
            assert!(good(value), "{check} refuses {value:?}");
        }
        for value in *refused {
            assert!(!good(value), "{check} takes {value:?}");
        }
    }
}

#[test]
fn lengths_have_their_limits() {
    let long = |length: usize| "a".repeat(length);
    let prefixed = |length: usize| format!("{}/{}", long(length), long(63));
    let rows: [(&str, bool, bool); 7] = [
        (
            "label",
            dns_label(&long(63)).is_empty(),
            dns_label(&long(64)).is_empty(),
        ),
        (
            "subdomain",
            dns_subdomain(&long(253)).is_empty(),
            dns_subdomain(&long(254)).is_empty(),
        ),
        (
            "search",
            search_domain(&long(253)).is_empty(),
            search_domain(&long(254)).is_empty(),
        ),
        (
            "key",
            label_key(&prefixed(253)).is_empty(),
            label_key(&prefixed(254)).is_empty(),
        ),
        (
            "value",
            label_value(&long(63)).is_empty(),
            label_value(&long(64)).is_empty(),
        ),
        (
            "port",
            port_name(&long(15)).is_empty(),
            port_name(&long(16)).is_empty(),
        ),
        ("sysctl", sysctl_name(&long(253)), sysctl_name(&long(254))),
    ];
    for (kind, at_limit, above) in rows {
        assert!(at_limit && !above, "{kind}");
    }
}

#[test]
fn search_domains_take_underscores_and_addresses_leading_zeros() {
    for good in [
        "example.com",
        "_example.com",
        "sub._example.com",
        "sub_domain.example.com",
    ] {
        assert!(search_domain(good).is_empty(), "{good}");
    }
    for bad in [
        "",
        "Example.com",
        "-example.com",
        "example.com-",
        "example@.com",
        "__a",
    ] {
        assert!(!search_domain(bad).is_empty(), "{bad}");
    }
    for good in [
        "1.2.3.4",
        "01.02.03.000",
        "::1",
        "::ffff:1.2.3.4",
        "2001:db8::",
    ] {
        assert!(ip(good).is_empty(), "{good}");
    }
    for bad in [
        "",
        "1.2.3",
        "1.2.3.256",
        "a",
        "1.2.3.4.5",
        "1.2.3.4/8",
        "[::1]",
        "1.2.3.+4",
    ] {
        assert!(!ip(bad).is_empty(), "{bad}");
    }
}
