//! What the engine will be asked for, for people.

use sheaf_flight::Secret;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::Text;

use super::request::{Around, Request, request};
use crate::{DriverError, Launch, LaunchId, planned};

/// Stands for what is looked up, or given out, when an instance starts.
const LATER: &str = "(at the start)";

/// The requests for the first start of each instance of a plan, in the order of the plan.
/// Nothing is looked up, and addresses and tokens are given out at the start: so these are to
/// be read, and not to be sent.
///
/// # Errors
/// For a component without an image.
pub fn render(plan: &Plan, component_image: &str) -> Result<Vec<Request>, DriverError> {
    let instances = plan
        .components
        .iter()
        .flat_map(|component| component.instances.iter().map(move |one| (component, one.index)));
    let requests = instances.map(|(component, index)| {
        let assignment = planned::assignment(plan, component, index);
        let variables = component.definition.environment.iter();
        let environment = variables.map(|(name, text)| match text {
            Text::Plain(text) => (name.clone(), Secret::new(text)),
            Text::Reference(_) => (name.clone(), Secret::new(LATER)),
        });
        let launch = Launch {
            id: LaunchId { place: assignment.place.clone(), attempt: 1 },
            environment: environment.collect(),
            assignment,
        };
        let around = Around {
            component_image: component_image.to_owned(),
            control: LATER.to_owned(),
            ..Around::default()
        };
        request(&launch, &around, &mut |_| Ok(Secret::new(LATER)))
    });
    requests.collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::User;
    use super::*;

    #[test]
    fn each_instance_is_asked_for_once_and_without_secrets() {
        let text = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources: [{id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}]
sinks:
  - {id: b, image: own/b:2, inputs: [a], replicas: 2, resources: {cpu: 500m, memory: 64MB},
     environment: {LOG: debug, KEY: {env: KEY}}}
";
        let pipeline = sheaf_pipeline::check::check("p.yaml", text).unwrap().pipeline;
        let requests = render(&Plan::new(&pipeline), "built-in:1").unwrap();
        let names: Vec<&str> = requests.iter().map(|request| request.name.as_str()).collect();
        assert_eq!(names, ["sheaf.p.a.1", "sheaf.p.b.1", "sheaf.p.b.1.1"]);
        let shown = serde_json::to_value(&requests).unwrap();
        assert_eq!(shown[0]["container"]["Image"], "built-in:1");
        let run = serde_json::json!(["sheaf-component", "run"]);
        assert_eq!(shown[0]["container"]["Entrypoint"], run);
        let last = &shown[2]["container"];
        assert_eq!(last["Image"], "own/b:2");
        let variables =
            ["KEY=(at the start)", "LOG=debug", "SHEAF_ASSIGNMENT=/run/sheaf/assignment.json"];
        assert_eq!(last["Env"], serde_json::json!(variables));
        assert_eq!(last["Labels"]["dev.sheaf.place"], "p:b.1");
        let host = &last["HostConfig"];
        assert_eq!((&host["NanoCpus"], &host["Memory"]), (&500_000_000.into(), &64_000_000.into()));
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        assert_eq!(host["Mounts"][0]["Source"], "sheaf.p.b.1");
        assert!(shown[0].get("files").is_none());
        assert!(last.get("Entrypoint").is_none() && last.get("User").is_none());
    }

    #[test]
    fn built_in_components_work_in_the_folder_of_this_machine_as_its_user() {
        let text = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources: [{id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}]
sinks: [{id: b, image: own/b:2, inputs: [a]}]
";
        let pipeline = sheaf_pipeline::check::check("p.yaml", text).unwrap().pipeline;
        let plan = Plan::new(&pipeline);
        let folder = Some(("/home/me/orders".into(), User { id: 1000, group: 100 }));
        let around = Around { folder, ..Around::default() };
        let asked = plan.components.iter().map(|component| {
            let assignment = planned::assignment(&plan, component, 0);
            let assignment = sheaf_dataflow::Assignment { state_dir: "/s/a".into(), ..assignment };
            let id = LaunchId { place: assignment.place.clone(), attempt: 1 };
            let launch = Launch { id, assignment, environment: Vec::new() };
            let found = request(&launch, &around, &mut |_| unreachable!("it has no references"));
            found.unwrap().container
        });
        let [built_in, own] = &asked.collect::<Vec<_>>()[..] else { unreachable!("two") };
        assert_eq!(built_in.user.as_deref(), Some("1000:100"));
        assert_eq!(built_in.working_dir.as_deref(), Some("/work"));
        let mounts = |of: &bollard::models::ContainerCreateBody| {
            let mounts = of.host_config.clone().unwrap().mounts.unwrap();
            let mount = |mount: &bollard::models::Mount| {
                let (source, target) = (mount.source.clone(), mount.target.clone());
                format!("{} {}", source.unwrap(), target.unwrap())
            };
            mounts.iter().map(mount).collect::<Vec<_>>()
        };
        assert_eq!(mounts(built_in), ["/home/me/orders /work", "/s/a /var/lib/sheaf/state"]);
        assert_eq!((own.user.as_deref(), own.working_dir.as_deref()), (None, None));
        assert_eq!(mounts(own), ["sheaf.p.b /var/lib/sheaf"]);
    }
}
