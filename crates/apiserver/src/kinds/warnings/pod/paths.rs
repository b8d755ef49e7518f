//! Warnings about files of one volume whose paths overlap.
//!
//! In:    the volumes of a pod
//! Out:   upstream's texts
//! Calls: `warnings/pod`
//! Holds: pure
//! Upstream: pkg/api/pod/warnings.go warningsForOverlappingVirtualPaths (1.36)

use serde_json::Value;

use crate::base::object::{list, text};

/// A path, and its source.
type File = (String, String);

fn shown((path, source): &File) -> String {
    match &**source {
        "" => format!("{path:?}"),
        source => format!("{path:?} ({source})"),
    }
}

pub(super) fn overlaps(volumes: &[Value]) -> Vec<String> {
    volumes.iter().flat_map(of_volume).collect()
}

fn of_volume(volume: &Value) -> Vec<String> {
    let name = text(volume, "/name");
    let mut found = Vec::new();
    let tell =
        |what: &str, body: String| format!("volume {name:?} ({what}): overlapping paths: {body}");
    for (kind, word, field) in [
        ("configMap", "ConfigMap", "/name"),
        ("secret", "Secret", "/secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let Some(source) = volume.get(kind) else {
            continue;
        };
        let what = match field {
            "" => word.to_owned(),
            field => format!("{word} {:?}", text(source, field)),
        };
        let mut files = Vec::new();
        for file in items(source, "") {
            let clashes = clashes(&mut files, file);
            found.extend(clashes.into_iter().map(|body| tell(&what, body)));
        }
    }
    let mut files = Vec::new();
    for source in list(volume, "/projected/sources") {
        if source.as_object().is_none_or(|source| source.is_empty()) {
            found.push(format!(
                "volume {name:?} (Projected) has no sources provided"
            ));
            continue;
        }
        for file in projected(source) {
            let clashes = clashes(&mut files, file);
            found.extend(clashes.into_iter().map(|body| tell("Projected", body)));
        }
    }
    found
}

fn items(source: &Value, from: &str) -> Vec<File> {
    let items = list(source, "/items").iter();
    let file = |item: &Value| (text(item, "/path").to_owned(), from.to_owned());
    items.map(file).collect()
}

fn projected(source: &Value) -> Vec<File> {
    let named = |kind: &str, word: &str| {
        let source = source.get(kind)?;
        Some(items(
            source,
            &format!("{word} {:?}", text(source, "/name")),
        ))
    };
    let file = |path: &str, from: String| vec![(path.to_owned(), from)];
    let found = named("configMap", "ConfigMap")
        .or_else(|| named("secret", "Secret"))
        .or_else(|| source.get("downwardAPI").map(|of| items(of, "DownwardAPI")))
        .or_else(|| {
            let token = source.get("serviceAccountToken")?;
            Some(file(text(token, "/path"), "ServiceAccountToken".to_owned()))
        })
        .or_else(|| {
            let bundle = source.get("clusterTrustBundle")?;
            let name = match text(bundle, "/name") {
                "" => text(bundle, "/signerName"),
                name => name,
            };
            let from = format!("ClusterTrustBundle {name:?}");
            Some(file(text(bundle, "/path"), from))
        })
        .or_else(|| {
            let certificate = source.get("podCertificate")?;
            let parts = [
                ("/certificateChainPath", "chain"),
                ("/keyPath", "key"),
                ("/credentialBundlePath", "credential bundle"),
            ];
            let part = |(field, word)| {
                let path = text(certificate, field);
                (!path.is_empty()).then(|| (path.to_owned(), format!("PodCertificate {word}")))
            };
            Some(parts.into_iter().filter_map(part).collect())
        });
    found.unwrap_or_default()
}

/// The earlier files that the new one overlaps; it is then added to them.
fn clashes(files: &mut Vec<File>, (path, source): File) -> Vec<String> {
    let file = (path.trim_end_matches('/').to_owned(), source);
    let is_below = |one: &str, other: &str| format!("{one}/").starts_with(&format!("{other}/"));
    let clash = |other: &&File| {
        !file.0.is_empty()
            && !other.0.is_empty()
            && (is_below(&other.0, &file.0) || is_below(&file.0, &other.0))
    };
    let found = files.iter().filter(clash);
    let told = found.map(|other| format!("{} with {}", shown(&file), shown(other)));
    let told = told.collect();
    files.push(file);
    told
}
