//! Wrong certificates: the manager's own, the root's, and those of nodes.

use super::Own;
use crate::{
    ca::{self, Authority, NoRandom, Role, Template, Use},
    time,
};

const DAY_S: i64 = 86_400;
/// PEM of the bundle that nobody should download, in bytes.
const HUGE_BYTES: usize = 64 << 20;

fn signed(own: &Own) -> Result<String, NoRandom> {
    Ok(own.root.sign(&own.template)? + &own.cross)
}

pub(super) fn worker(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    let subject = &mut own.template.subject;
    subject.unit = Role::Worker.unit().to_owned();
    own.template.purpose = Use::Node(vec![Role::Worker.unit().to_owned(), subject.name.clone()]);
    signed(own)
}

pub(super) fn san(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.template.purpose = Use::Node(vec![String::from("localhost")]);
    signed(own)
}

pub(super) fn no_san(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.template.purpose = Use::Node(Vec::new());
    own.template.subject.name = Role::Manager.unit().to_owned();
    signed(own)
}

pub(super) fn joining_name(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.template.purpose = Use::Node(vec![String::from("swarm-ca")]);
    signed(own)
}

pub(super) fn foreign(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.root = Authority::new(time::now_s())?;
    own.root.sign(&own.template)
}

pub(super) fn self_signed(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    // Of an authority that has the manager's own name and the manager's own key to show.
    let root = Authority::new(time::now_s())?;
    Ok(root.sign(&own.template)? + &root.certificate)
}

pub(super) fn expired(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.template.not_before = time::now_s() - 2 * DAY_S;
    own.template.not_after = time::now_s() - DAY_S;
    signed(own)
}

pub(super) fn future(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    own.template.not_before = time::now_s() + DAY_S;
    own.template.not_after = time::now_s() + 2 * DAY_S;
    signed(own)
}

pub(super) fn truncated(own: &mut Own, _: u64) -> Result<String, NoRandom> {
    let intermediate = Authority::new(time::now_s())?;
    // The root certifies it, and nobody is shown that.
    let _unsent = own.root.cross_sign(&intermediate, time::now_s())?;
    intermediate.sign(&own.template)
}

pub(super) fn root_wrong(_: &[u8], _: u64) -> Result<Vec<u8>, NoRandom> {
    Ok(Authority::new(time::now_s())?.certificate.into_bytes())
}

pub(super) fn root_extra(root: &[u8], _: u64) -> Result<Vec<u8>, NoRandom> {
    Ok([root, Authority::new(time::now_s())?.certificate.as_bytes()].concat())
}

pub(super) fn root_huge(root: &[u8], _: u64) -> Result<Vec<u8>, NoRandom> {
    Ok(root.repeat(HUGE_BYTES / root.len().max(1)))
}

pub(super) fn sign_expired(template: &mut Template, _: u64) {
    template.not_before -= 2 * DAY_S;
    template.not_after = time::now_s() - DAY_S;
}

pub(super) fn sign_future(template: &mut Template, _: u64) {
    template.not_before += DAY_S;
    template.not_after += DAY_S;
}

pub(super) fn sign_manager(template: &mut Template, _: u64) {
    template.subject.unit = Role::Manager.unit().to_owned();
    let names = [Role::Manager.unit(), &template.subject.name, "swarm-ca"];
    template.purpose = Use::Node(names.map(str::to_owned).to_vec());
}

pub(super) fn sign_other_key(template: &mut Template, _: u64) {
    if let Ok(spki) = ca::new_key().and_then(|key| ca::spki_of(&key)) {
        template.spki = spki;
    }
}

pub(super) fn sign_short(template: &mut Template, n: u64) {
    template.not_before = time::now_s() - 1;
    template.not_after = time::now_s() + i64::try_from(n).unwrap_or(i64::MAX / 2);
}
