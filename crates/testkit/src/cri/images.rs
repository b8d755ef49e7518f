//! The images of the stand-in runtime: references, ids, digests.
//!
//! In:    image names as users write them
//! Out:   stored images, found by name, full name, id or digest
//! Calls: state.rs, service.rs
//! Holds: id and digest depend on the full name only; removing by any reference removes the whole image
//! Upstream: none (facts: containerd 1.6 pkg/cri/server/image_*.go)

use std::collections::BTreeMap;

use kubelet_api::runtime::v1 as wire;

use crate::prng::Prng;

/// An image on disk.
#[derive(Debug, Clone)]
pub(super) struct StoredImage {
    /// `sha256:` and 64 hexadecimal digits.
    pub(super) id: String,
    /// `host/path:tag`; empty for images pulled by digest.
    pub(super) tags: Vec<String>,
    /// `host/path@sha256:…`.
    pub(super) digests: Vec<String>,
    /// Bytes.
    pub(super) size: u64,
}

/// All images on disk.
#[derive(Debug, Default)]
pub(super) struct Images {
    by_id: BTreeMap<String, StoredImage>,
    ids: BTreeMap<String, String>,
    pulls: BTreeMap<String, u64>,
}

/// The name with registry, path and tag, as the runtime stores it.
fn full_name(name: &str) -> String {
    let with_host = match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    };
    let last = with_host.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        with_host
    } else {
        format!("{with_host}:latest")
    }
}

impl Images {
    /// Stores an image and returns its id; once more gives the same.
    pub(super) fn add(&mut self, name: &str, size: u64) -> String {
        let full = full_name(name);
        let mut prng = Prng::stream(0, &full);
        let digest: String = (0..4)
            .map(|_| format!("{:016x}", prng.next_u64()))
            .collect();
        let id: String = (0..4)
            .map(|_| format!("{:016x}", prng.next_u64()))
            .collect();
        let id = format!("sha256:{id}");
        let path = full.split('@').next().unwrap_or_default();
        let repository = match path.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => path,
        };
        let (tags, digests) = if full.contains('@') {
            (Vec::new(), vec![full.clone()])
        } else {
            (
                vec![full.clone()],
                vec![format!("{repository}@sha256:{digest}")],
            )
        };
        for reference in tags.iter().chain(&digests).chain([&id]) {
            self.ids.insert(reference.clone(), id.clone());
        }
        self.by_id.insert(
            id.clone(),
            StoredImage {
                id: id.clone(),
                tags,
                digests,
                size,
            },
        );
        id
    }

    /// Finds by id with or without `sha256:`, name or full name.
    pub(super) fn find(&self, name: &str) -> Option<&StoredImage> {
        if name.is_empty() {
            return None;
        }
        let id = self
            .ids
            .get(name)
            .or_else(|| self.ids.get(&full_name(name)))
            .or_else(|| self.ids.get(&format!("sha256:{name}")))?;
        self.by_id.get(id)
    }

    /// Counts a pull of the name; the first is 1.
    pub(super) fn count_pull(&mut self, name: &str) -> u64 {
        let pulls = self.pulls.entry(name.to_owned()).or_insert(0);
        *pulls += 1;
        *pulls
    }

    /// Removes the image with all its references; none is fine.
    pub(super) fn remove(&mut self, name: &str) {
        let Some(id) = self.find(name).map(|image| image.id.clone()) else {
            return;
        };
        self.by_id.remove(&id);
        self.ids.retain(|_, owner| *owner != id);
    }

    /// All images, or the one that the filter names.
    pub(super) fn list(&self, filter: Option<&wire::ImageFilter>) -> Vec<wire::Image> {
        let name = filter
            .and_then(|filter| filter.image.as_ref())
            .map_or("", |image| image.image.as_str());
        if name.is_empty() {
            return self.by_id.values().map(on_wire).collect();
        }
        self.find(name).into_iter().map(on_wire).collect()
    }

    /// Bytes of all images.
    pub(super) fn bytes(&self) -> u64 {
        self.by_id.values().map(|image| image.size).sum()
    }
}

/// The image as ListImages and ImageStatus show it.
pub(super) fn on_wire(image: &StoredImage) -> wire::Image {
    wire::Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_full_names_ids_and_digests_find_the_same_image() {
        let mut images = Images::default();
        let id = images.add("busybox", 1);
        let image = images
            .find("docker.io/library/busybox:latest")
            .unwrap()
            .clone();
        assert_eq!(image.id, id);
        for name in [
            "busybox",
            "busybox:latest",
            &id,
            &id["sha256:".len()..],
            &image.digests[0],
        ] {
            assert_eq!(
                images.find(name).map(|found| &found.id),
                Some(&id),
                "{name}"
            );
        }
        images.remove("busybox");
        assert!(images.find(&id).is_none());
        assert_eq!(full_name("a/b"), "docker.io/a/b:latest");
        assert_eq!(full_name("localhost:5000/b:1"), "localhost:5000/b:1");
    }
}
