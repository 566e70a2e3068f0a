//! `token`.

use super::{Failure, TokenSet, join, print};
use crate::{
    ca::JoinToken,
    config::Config,
    model::chain,
    node::{
        control::{self, Request, Response},
        token::{self, NewToken, TokenText},
    },
    seal::{self, IdentityStore, Machine, Sealer},
};

/// Keeps another join token in the identity of this node.
pub(super) fn set(config: &Config, arguments: TokenSet) -> Result<(), Failure> {
    let TokenSet { token, token_file, new_root } = arguments;
    let text = join::read_token(token, token_file.as_deref())?;
    let token = join::parse_token(&text)?;
    let wish = NewToken { token: TokenText(text), new_root };
    match control::ask(&config.exec_root, &Request::SetToken(wish)) {
        Ok(Some(Response::Done)) => {}
        Ok(Some(Response::Refused(reason))) => return Err(Failure::refused(reason)),
        Ok(Some(Response::Failed(reason))) => return Err(Failure::plain(reason)),
        // No agent holds the identity in its hands.
        Ok(None | Some(Response::NotJoined)) => set_alone(config, &token, new_root)?,
        Ok(Some(Response::Status(_) | Response::Tasks(_))) => {
            return Err(Failure::plain("the running agent answered something else"));
        }
        Err(error) => return Err(Failure::failed("the running agent does not answer", &error)),
    }
    print(format_args!("The new join token is sealed.\n"))
}

fn set_alone(config: &Config, token: &JoinToken, new_root: bool) -> Result<(), Failure> {
    if !seal::is_sealed(&config.data_root) {
        return Err(Failure::not_joined());
    }
    let lock = join::lock(config)?;
    let sealer = Sealer::open(&config.data_root, &Machine::this(), &config.seal)?;
    let store = IdentityStore::new(&config.data_root, sealer);
    let Some(mut identity) = store.load()? else { return Err(Failure::not_joined()) };
    token::replace(&mut identity, token, new_root)
        .map_err(|error| Failure::refused(chain(&error)))?;
    store.save(&identity).map_err(|error| Failure::failed("the token is not sealed", &error))?;
    // Whatever the agent waits for, it goes on with this identity.
    drop(control::ask(&config.exec_root, &Request::IdentityChanged));
    drop(lock);
    Ok(())
}
