//! A NodeCertificateStatusResponse: what a manager says of a certificate that was asked for.

use edgeagent::{model::IssuanceState, node::enrol, rpc};

/// Only a final answer to our own request brings a chain; whether to believe that is for the target
/// `certificate`.
pub fn run(data: &[u8]) {
    let Ok(answer) = rpc::certificate_answer(data) else { return };
    assert!(answer.csr.len() + answer.chain.len() <= data.len());
    assert!(answer.err.len() <= 3 * data.len());
    let decided = matches!(answer.state, IssuanceState::Issued | IssuanceState::Rotate);
    for ours in [&b"our request"[..], &answer.csr] {
        match enrol::signed(answer.clone(), ours) {
            Ok(Some(chain)) => assert!(decided && answer.csr == ours && !chain.is_empty()),
            Ok(None) => assert!(!decided || answer.csr != ours),
            Err(fault) => {
                let failed = answer.state == IssuanceState::Failed;
                assert!(failed || (decided && answer.csr == ours && answer.chain.is_empty()));
                assert!(!fault.to_string().is_empty());
            }
        }
    }
}
