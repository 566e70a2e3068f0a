//! Following the swarm's root CA, and the join token that goes with it.

use std::{sync::Arc, time::Instant};

use super::{Member, News, clock, rejoin, trusted_now};
use crate::{
    agent::Input,
    ca::{JoinToken, PinnedRoot, RootError},
    limits::{DIAL_TIMEOUT, ROOT_RETRY},
    model::{LinkLoss, SecretBytes, SessionMessage, UnixTime, chain},
    rpc::{self, CallError, Channel},
};

/// A root CA bundle that somebody offers over a connection that proves nothing.
pub(super) struct Offer {
    addr: String,
    bundle: Result<Vec<u8>, CallError>,
}

/// What this node does about the roots that it is offered.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// No bundle is asked for before this.
    pause: Option<Instant>,
    /// A root that is not ours, and that our certificate does not lead to: what to tell.
    pub(super) alarm: Option<String>,
    /// The last token that was offered and not taken: it is complained of once.
    refused: Option<SecretBytes>,
}

impl Member<'_> {
    /// The managers' root CA changed: follow it if our own certificate proves that we may
    /// (behaviour.md §6.5), otherwise stay with the one we have.
    pub(super) fn follow_root(&mut self, message: &SessionMessage) {
        if message.root_ca.is_empty() || message.root_ca == self.root.pem() {
            return;
        }
        let Some(certificate) = &self.identity.certificate else { return };
        match self.root.successor(&message.root_ca, &certificate.chain, self.vouching_time()) {
            Ok(root) => self.take_root(root),
            Err(error) => self.complain(format!(
                "a manager sent a new root CA that this node's certificate does not vouch for, \
                 it is ignored: {}",
                chain(&error)
            )),
        }
    }

    /// The other side and we do not believe each other: a rotation of the root may have been
    /// missed. Whoever answers may offer a root; only our own certificate can make us take it.
    pub(super) fn ask_for_root(&mut self, loss: &LinkLoss) {
        let now = clock().mono;
        match loss {
            LinkLoss::Untrusted(_) | LinkLoss::Denied(_) => {}
            LinkLoss::Unreachable(_)
            | LinkLoss::WrongTime(_)
            | LinkLoss::Refused(_)
            | LinkLoss::SessionInvalid
            | LinkLoss::RateLimited
            | LinkLoss::Removed(_)
            | LinkLoss::NoLeader(_)
            | LinkLoss::Misbehaved(_)
            | LinkLoss::Broken(_) => return,
        }
        if self.trust.pause.is_some_and(|until| now < until) {
            return;
        }
        self.trust.pause = Some(now + ROOT_RETRY);
        let Ok(tls) = rpc::unverified() else { return };
        let (executor, addr) = (std::rc::Rc::clone(&self.executor), self.dialled.clone());
        let news = self.news.0.clone();
        self.fetching = Some(self.executor.spawn(async move {
            let bundle = async {
                let channel =
                    Channel::open(&executor, &addr, Arc::clone(&tls), rpc::JOIN_NAME, DIAL_TIMEOUT);
                Box::pin(channel).await?.root_ca().await
            };
            let bundle = bundle.await;
            // The loop lives as long as this future.
            let _unheard = news.send(News::Root(Offer { addr, bundle })).await;
        }));
    }

    pub(super) fn handle_offer(&mut self, offer: Offer) {
        self.fetching = None;
        let Offer { addr, bundle } = offer;
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(error) => return log::debug!("no root CA from {addr}: {}", chain(&error)),
        };
        let Some(certificate) = &self.identity.certificate else { return };
        match self.root.recovered(&bundle, &certificate.chain, self.vouching_time()) {
            Ok(root) if root == self.root => {}
            Ok(root) => {
                self.take_root(root);
                self.trust.alarm = None;
            }
            Err(error) => self.alarm(&addr, &bundle, &error),
        }
    }

    fn alarm(&mut self, addr: &str, bundle: &[u8], error: &RootError) {
        let text = format!(
            "whoever answers at {addr} presents another root CA (sha256:{}) than the one this node \
             trusts (sha256:{}): {}. Either the root was rotated while this node was away, or \
             someone is intercepting. Nothing secret was sent, running tasks go on, and nothing \
             changes until a manager of the trusted root is back. If it was rotated: edgeagent \
             leave, then edgeagent join with a new token",
            PinnedRoot::unsealed(bundle.to_vec()).fingerprint(),
            self.root.fingerprint(),
            chain(error)
        );
        if self.trust.alarm.as_ref() != Some(&text) {
            log::error!("{text}");
            self.trust.alarm = Some(text);
        }
    }

    fn take_root(&mut self, root: PinnedRoot) {
        let before = std::mem::replace(&mut self.identity.root_ca, root.pem().to_vec());
        if !self.save_identity() {
            self.identity.root_ca = before;
            return;
        }
        log::info!("the swarm's root CA was rotated, following it");
        self.root = root;
        self.adopt_identity();
        self.trust.refused = None;
        self.follow_token();
        if !self.identity.token.expose().is_empty() && rejoin::token(&self.identity).is_none() {
            log::warn!(
                "the join token that is sealed here was of the root CA before: send a new one as \
                 the swarm secret {}, or seal it with edgeagent token set",
                self.config.token_secret
            );
        }
        self.tell_token();
    }

    /// When to ask whether our certificate leads to a root: in its own time. That it has expired
    /// meanwhile, or that our clock is wrong, says nothing about who signed it.
    fn vouching_time(&self) -> UnixTime {
        trusted_now(&self.identity).max(self.issued.not_before).min(self.issued.not_after)
    }

    /// A task of this node has the secret that brings a new join token: seal it, if it is one of
    /// this swarm.
    pub(super) fn follow_token(&mut self) {
        let Some(offered) = self.offered_token() else { return };
        let fault = match std::str::from_utf8(offered.expose()).map(JoinToken::parse) {
            Ok(Ok(token)) => match PinnedRoot::pin(self.root.pem().to_vec(), &token) {
                Ok(_) if self.identity.forget_token => {
                    String::from("this node was told to keep no token")
                }
                Ok(_) => return self.seal_token(&token),
                Err(_) => String::from("it is of another root CA than this node trusts"),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => String::from("it is no text"),
        };
        self.trust.refused = Some(offered);
        let name = &self.config.token_secret;
        let text = format!("the join token in the secret {name} is not taken: {fault}");
        self.complain(text);
    }

    /// What the secret holds, if that is news. While a service is being updated there may be two;
    /// as soon as one of them is what is sealed, nothing is.
    fn offered_token(&self) -> Option<SecretBytes> {
        let agent = self.agent.borrow();
        let sealed = self.identity.token.expose();
        let mut offers = agent.secrets_called(&self.config.token_secret);
        let first = offers.next()?;
        if first.expose().trim_ascii() == sealed
            || offers.any(|data| data.expose().trim_ascii() == sealed)
            || self.trust.refused.as_ref() == Some(first)
        {
            return None;
        }
        Some(first.clone())
    }

    fn seal_token(&mut self, token: &JoinToken) {
        let new = SecretBytes::new(token.expose().as_bytes().to_vec());
        let before = std::mem::replace(&mut self.identity.token, new);
        if self.save_identity() {
            log::info!("sealed the join token that came as secret {}", self.config.token_secret);
            self.tell_token();
        } else {
            self.identity.token = before;
        }
    }

    /// Tells the core whether there is a token that it may use.
    pub(super) fn tell_token(&self) {
        self.tell(Input::Token(rejoin::token(&self.identity).is_some()));
    }
}
