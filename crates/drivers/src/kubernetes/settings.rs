//! What a cluster has to be told beside the pipeline.

use sheaf_dataflow::DurableAssignment;

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
    /// Which pass over the data, from 1: what has come to its end in it stays there, also where
    /// the pipeline is another one now.
    pub pass: u64,
    /// Where batches of durable edges wait: a store that pods reach. A pipeline with such edges
    /// needs one.
    pub durable: Option<DurableAssignment>,
}

impl Default for Settings {
    /// Namespace `default`, the image of this version, volumes of 1 GB, the first pass and no
    /// store.
    fn default() -> Self {
        Settings {
            namespace: "default".to_owned(),
            component_image: IMAGE.to_owned(),
            control_image: IMAGE.to_owned(),
            state_size_bytes: 1_000_000_000,
            storage_class: None,
            pass: 1,
            durable: None,
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
    /// An edge is durable, and nothing says where its batches are to wait.
    #[error(
        "edge {edge} is durable, and a cluster is given no store for it: name one that its pods \
         reach with --durable-store grpc://HOST:PORT, or write `durable: false`"
    )]
    NoStore {
        /// The edge.
        edge: String,
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

impl Settings {
    /// Whether a cluster takes them.
    ///
    /// # Errors
    /// [`RenderError::Namespace`] and [`RenderError::Image`].
    pub fn check(&self) -> Result<(), RenderError> {
        if !is_dns_label(&self.namespace) {
            return Err(RenderError::Namespace { namespace: self.namespace.clone() });
        }
        let images = [("components", &self.component_image), ("sheafctl", &self.control_image)];
        match images.into_iter().find(|(_, image)| image.trim().is_empty()) {
            Some((what, _)) => Err(RenderError::Image { what }),
            None => Ok(()),
        }
    }
}
