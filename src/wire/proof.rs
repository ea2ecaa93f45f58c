//! What a node shows to prove that it belongs: a value derived from the cluster's secret, so that
//! the secret itself never travels.

use std::fmt::Write as _;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::dynamo::node_id::NodeId;

/// The proof of one cluster secret, and who shows it.
#[derive(Clone)]
pub struct PeerProof {
    proof: Arc<str>,
    caller: Option<NodeId>,
}

impl std::fmt::Debug for PeerProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerProof")
    }
}

impl PeerProof {
    /// The proof that follows from a secret.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "HMAC takes any key"
    )]
    pub fn of(secret: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key");
        mac.update(b"quorate peer 1");
        let text = mac
            .finalize()
            .into_bytes()
            .iter()
            .fold(String::new(), |mut text, byte| {
                // Writing to a String cannot fail.
                write!(text, "{byte:02x}").unwrap_or_default();
                text
            });
        Self {
            proof: text.into(),
            caller: None,
        }
    }

    /// The same, shown by this node.
    #[must_use]
    pub fn shown_by(self, node: NodeId) -> Self {
        Self {
            caller: Some(node),
            ..self
        }
    }

    /// Who shows it, if that is said: for logs and for tools between the nodes; nothing trusts it.
    #[must_use]
    pub fn caller(&self) -> Option<&NodeId> {
        self.caller.as_ref()
    }

    /// The proof as a header's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.proof
    }

    /// Whether a caller showed this proof; takes the same time whatever it showed.
    #[must_use]
    pub fn accepts(&self, shown: &str) -> bool {
        self.proof.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_that_of_one_secret_and_does_not_show_it() {
        let proof = PeerProof::of(b"a secret of a cluster");
        assert!(proof.accepts(PeerProof::of(b"a secret of a cluster").as_str()));
        assert!(!proof.accepts(PeerProof::of(b"a secret of another").as_str()));
        assert!(!proof.accepts(""));
        assert!(!proof.as_str().contains("secret"));
    }

    #[test]
    fn a_proof_says_who_shows_it_and_is_the_same_for_all() {
        let (proof, name) = (PeerProof::of(b"a secret"), NodeId::new("n1").unwrap());
        assert_eq!(proof.caller(), None);
        let shown = proof.clone().shown_by(name.clone());
        assert_eq!(shown.caller(), Some(&name));
        assert!(proof.accepts(shown.as_str()));
    }
}
