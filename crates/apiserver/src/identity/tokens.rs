//! Service account tokens: JWTs that the API server signs with its own key.
//!
//! In:    claims; a token
//! Out:   a token; the claims of a token that this key signed
//! Calls: `server` (TokenRequest, authentication, TokenReview)
//! Holds: ES256 only, so a token cannot choose its verification algorithm; the caller looks up the objects that a token is
//!        bound to
//! Upstream: pkg/serviceaccount/{claims,jwt}.go (1.36); differences: ES256 (upstream: depends on the key); lifetimes are not
//!           extended

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::base::encoding::{base64_url, from_base64_url};

/// The key that signs and verifies tokens.
pub(crate) struct TokenKey {
    key: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Loads a PKCS#8 key.
    ///
    /// # Errors
    /// What is wrong with the key.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|rejected| rejected.to_string())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Self {
            id: base64_url(digest.as_ref()),
            key,
            random,
        })
    }

    /// Signs a token with these claims.
    ///
    /// # Errors
    /// The system's random generator failed.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, String> {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            base64_url(header.to_string().as_bytes()),
            base64_url(claims.to_string().as_bytes())
        );
        let signature = self.key.sign(&self.random, signed.as_bytes());
        let signature = signature.map_err(|_| "the token could not be signed".to_owned())?;
        Ok(format!("{signed}.{}", base64_url(signature.as_ref())))
    }

    /// The claims of a token that this key signed; `None` for any other token.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&from_base64_url(header)?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        public
            .verify(signed.as_bytes(), &from_base64_url(signature)?)
            .ok()?;
        serde_json::from_slice(&from_base64_url(claims)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_whole_tokens_are_believed() {
        let fresh = || {
            let der = rcgen::KeyPair::generate().unwrap().serialize_der();
            TokenKey::from_pkcs8(&der).unwrap()
        };
        let (ours, theirs) = (fresh(), fresh());
        let claims = json!({"sub": "system:serviceaccount:a:b"});
        let token = ours.sign(&claims).unwrap();
        assert_eq!(ours.verify(&token), Some(claims));
        assert_eq!(theirs.verify(&token), None);
        let parts: Vec<&str> = token.split('.').collect();
        let none = base64_url(br#"{"alg":"none"}"#);
        let other = base64_url(br#"{"sub":"admin"}"#);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{other}.{}", parts[0], parts[2]),
            String::new(),
            "a.b".to_owned(),
        ] {
            assert_eq!(ours.verify(&forged), None, "{forged}");
        }
    }
}
