//! A rule's filters, parsed.

use portolan_model::route::Filter;

use crate::edits::{CompiledEdits, EditError};
use crate::redirect::{CompiledRedirect, RedirectError};
use crate::rewrite::{CompiledRewrite, RewriteError};

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// In header edits.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// In a redirect.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// In a rewrite.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
}

/// A filter that can be applied without parsing what the rule said.
#[derive(Clone, Debug)]
pub enum CompiledFilter {
    /// Before the request goes upstream.
    RequestHeaders(CompiledEdits),
    /// Before the response goes downstream.
    ResponseHeaders(CompiledEdits),
    /// Answers with a redirect.
    Redirect(CompiledRedirect),
    /// Changes host or path of the request that goes upstream.
    Rewrite(CompiledRewrite),
}

impl CompiledFilter {
    /// Parses a filter.
    pub fn build(filter: &Filter) -> Result<Self, FilterError> {
        Ok(match filter {
            Filter::RequestHeaders(edits) => Self::RequestHeaders(CompiledEdits::build(edits)?),
            Filter::ResponseHeaders(edits) => Self::ResponseHeaders(CompiledEdits::build(edits)?),
            Filter::Redirect(redirect) => Self::Redirect(CompiledRedirect::build(redirect)?),
            Filter::Rewrite(rewrite) => Self::Rewrite(CompiledRewrite::build(rewrite)?),
        })
    }
}
