//! What a cluster has to be told beside the pipeline.

use super::names::is_dns_label;
use crate::IMAGE;

/// The port of the control plane.
pub(crate) const CONTROL_PORT: u16 = 8080;

/// What a cluster has to be told beside the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where everything goes.
    pub namespace: String,
    /// The image of built-in components.
    pub component_image: String,
    /// The image of the control plane.
    pub control_image: String,
    /// What a component's volume holds, beside what its spilling edges may.
    pub state_size_bytes: u64,
    /// The class of volumes; that of the cluster by default.
    pub storage_class: Option<String>,
    /// Up to how many instances the cluster may add, where a component's replicas may grow.
    pub max_replicas: Option<u32>,
}

impl Default for Settings {
    /// Namespace `default`, the image of this version, volumes of 1 GB, and replicas that stay.
    fn default() -> Self {
        Settings {
            namespace: "default".to_owned(),
            component_image: IMAGE.to_owned(),
            control_image: IMAGE.to_owned(),
            state_size_bytes: 1_000_000_000,
            storage_class: None,
            max_replicas: None,
        }
    }
}

/// What cannot be rendered, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// No namespace can be called so.
    #[error(
        "{namespace:?} cannot be a namespace: use at most 63 lower-case letters, digits and \
         hyphens, with a letter or digit at both ends"
    )]
    Namespace {
        /// What was given.
        namespace: String,
    },
    /// An image has no name.
    #[error("the image of {what} is empty: name one, such as `registry.example.org/{what}:1`")]
    Image {
        /// Whose.
        what: &'static str,
    },
    /// The component is a program, which no container has.
    #[error(
        "component `{component}` has no image: in a container it needs `image`, since `command` \
         is for processes"
    )]
    NoImage {
        /// The component.
        component: String,
    },
    /// More replicas than a component may have.
    #[error("{actual} replicas are more than the {limit} that a component may have")]
    Replicas {
        /// What was given.
        actual: u32,
        /// The most.
        limit: u32,
    },
    /// An object cannot be written.
    #[error("{what} cannot be written: {why}")]
    Write {
        /// The object.
        what: String,
        /// Why not.
        why: String,
    },
}

/// The most instances of a component, as the file has it.
const MAX_REPLICAS: u32 = 1_000;

impl Settings {
    /// Whether a cluster takes them.
    ///
    /// # Errors
    /// [`RenderError::Namespace`], [`RenderError::Image`] and [`RenderError::Replicas`].
    pub fn check(&self) -> Result<(), RenderError> {
        if !is_dns_label(&self.namespace) {
            return Err(RenderError::Namespace { namespace: self.namespace.clone() });
        }
        let images = [("components", &self.component_image), ("sheafctl", &self.control_image)];
        if let Some((what, _)) = images.into_iter().find(|(_, image)| image.trim().is_empty()) {
            return Err(RenderError::Image { what });
        }
        match self.max_replicas.filter(|most| *most > MAX_REPLICAS) {
            Some(actual) => Err(RenderError::Replicas { actual, limit: MAX_REPLICAS }),
            None => Ok(()),
        }
    }
}
