//! Which components the cluster may give more replicas.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sheaf_pipeline::plan::{Plan, PlannedComponent};
use sheaf_pipeline::spec::Partitioning;

/// At how much of its share of a processor a component gets more replicas.
const TARGET_PERCENT: i32 = 80;

/// Up to how many replicas a component may have, where they may grow.
///
/// A direct edge has its streams planned, from instance to instance: one more instance would
/// have none. A durable edge has no streams, and whoever comes takes its share, unless the
/// share of each instance is planned too. Without a share of a processor there is nothing that
/// its use could be measured by.
pub(crate) fn max_replicas(
    most: Option<u32>,
    plan: &Plan,
    component: &PlannedComponent,
) -> Option<u32> {
    let planned = u32::try_from(component.instances.len()).unwrap_or(u32::MAX);
    let most = most.filter(|most| *most > planned)?;
    component.definition.resources.cpu?;
    let mut edges = plan.senders_of(&component.id).chain(plan.readers_of(&component.id));
    let reads = plan.senders_of(&component.id).next().is_some();
    let shared =
        plan.senders_of(&component.id).all(|edge| edge.partitioning == Partitioning::RoundRobin);
    (reads && shared && edges.all(|edge| edge.durable)).then_some(most)
}

/// Gives a stateful set of this name more replicas as it uses its processors.
pub(crate) fn autoscaler(metadata: ObjectMeta, least: i32, most: u32) -> HorizontalPodAutoscaler {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(TARGET_PERCENT),
        ..MetricTarget::default()
    };
    let metric = MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    };
    HorizontalPodAutoscaler {
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "StatefulSet".to_owned(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            min_replicas: Some(least),
            max_replicas: i32::try_from(most).unwrap_or(i32::MAX),
            metrics: Some(vec![metric]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        metadata,
        ..HorizontalPodAutoscaler::default()
    }
}
