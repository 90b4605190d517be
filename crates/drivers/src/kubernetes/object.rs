//! The objects, each of its own type, and how they are written.

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;

use super::settings::RenderError;

macro_rules! objects {
    ($($kind:ident),+) => {
        /// One object of a cluster.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the names are those of Kubernetes")]
        pub enum Object {
            $($kind(Box<$kind>),)+
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Object::$kind(Box::new(object))
            }
        })+

        impl Object {
            /// Its kind, such as `Deployment`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Object::$kind(_) => <$kind as Resource>::KIND,)+
                }
            }

            /// Its name.
            pub fn name(&self) -> &str {
                let name = match self {
                    $(Object::$kind(object) => &object.metadata.name,)+
                };
                name.as_deref().unwrap_or_default()
            }
        }
    };
}

objects!(
    ServiceAccount,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Service,
    Deployment,
    StatefulSet,
    Pod,
    NetworkPolicy
);

impl Object {
    /// As a document of YAML: `apiVersion`, `kind`, `metadata` and then the rest, each list
    /// of fields in the same order each time.
    ///
    /// # Errors
    /// [`RenderError::Write`], for a text that YAML has no way to write.
    pub fn to_yaml(&self) -> Result<String, RenderError> {
        serde_saphyr::to_string(self).map_err(|error| RenderError::Write {
            what: format!("{} {}", self.kind(), self.name()),
            why: error.to_string(),
        })
    }
}
