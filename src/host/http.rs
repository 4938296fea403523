//! `harvest:http`: requests to the hosts that a component was granted. The host adds credentials; the guest sees none.

use super::bindings::harvest::http::outgoing::{Host, Request, Response};
use super::handle::Failure;
use super::instance::State;
use crate::capability::allow_list::AllowList;
use crate::capability::http::{self, Post};
use crate::capability::sandbox::Credential;
use crate::step::Permission;

impl Host for State {
    async fn post(&mut self, request: Request) -> Result<Response, Failure> {
        let credential = match request.credential {
            None => None,
            Some(given) => Some(Credential {
                header: given.header,
                prefix: given.prefix,
                secret: self.table.get(&given.secret)?.value()?.clone(),
            }),
        };
        let hosts: Vec<String> = self
            .attempt
            .call
            .permissions
            .iter()
            .filter_map(|permission| match permission {
                Permission::Http(hosts) => Some(hosts.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        let allowed = AllowList::parse(&hosts)?;
        let body = self.attempt.output.mask_bytes(&request.body).to_vec();
        let post = Post { url: request.url, content_type: request.content_type, body, credential };
        let answer = http::post(post, &allowed).await?;
        self.attempt.output.touch();
        Ok(Response { status: answer.status, body: answer.body })
    }
}
