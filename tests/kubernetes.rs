//! deploy/kubernetes/lavaproxy.yaml: the schemas that Kubernetes publishes, and whether its parts agree with each other,
//! with the image and with lavaproxy's settings. No cluster runs. Without Python it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::tool::said;

const MANIFEST: &str = "deploy/kubernetes/lavaproxy.yaml";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of the Python environment with the schemas; `None` is a skip.
fn program(name: &str) -> Option<PathBuf> {
    let installed = driver::is_installed("python/kubernetes");
    installed.then(|| repository().join("target/real/python/kubernetes/bin").join(name))
}

/// The manifest's objects: Deployment, Service, PodDisruptionBudget.
fn objects() -> Option<[Value; 3]> {
    let to_json = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output = Command::new(program("python")?).args(["-c", to_json]).arg(repository().join(MANIFEST)).output();
    let objects: Vec<Value> = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let objects: [Value; 3] = objects.try_into().expect("three objects");
    for (object, kind) in objects.iter().zip(["Deployment", "Service", "PodDisruptionBudget"]) {
        assert_eq!(object["kind"], kind);
    }
    Some(objects)
}

/// A whole number of seconds, as `10s` or as 10.
fn seconds(value: &Value) -> u64 {
    let text = value.as_str().map(|text| text.strip_suffix('s').unwrap().to_owned());
    text.map_or_else(|| value.as_u64().unwrap(), |text| text.parse().unwrap())
}

#[test]
fn it_fits_the_schemas_of_kubernetes() {
    let Some(validate) = program("kubernetes-validate") else { return };
    // The oldest that the file names, and a new one.
    for version in ["1.30", "1.37"] {
        let mut command = Command::new(&validate);
        let output = command.args(["--strict", "-k", version, MANIFEST]).current_dir(repository()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).matches(" passed ").count(), 3, "{}", said(&output));
    }
}

#[test]
fn its_settings_are_those_of_lavaproxy() {
    let Some([deployment, ..]) = objects() else { return };
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["enableServiceLinks"], false, "a Service may be called lavalink-v4");
    let container = &pod["containers"][0];
    let mut check = process::lavaproxy(&[]);
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        if name.ends_with("PASSWORD") {
            assert_eq!(variable["valueFrom"]["secretKeyRef"]["name"], "lavaproxy", "{name}");
        }
        check.env(name, variable["value"].as_str().unwrap_or("from the secret"));
    }
    let output = check.arg("--check").output().unwrap();
    let checked = said(&output);
    assert!(output.status.success(), "{checked}");
    let setting = |name: &str| {
        let value = checked.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{name} in {checked}")).to_owned()
    };
    assert_eq!(setting("WEB_HOST"), "0.0.0.0", "the probes reach it");
    for (name, port) in [("PROXY_PORT", &container["ports"][0]), ("WEB_PORT", &container["ports"][1])] {
        assert_eq!(port["containerPort"].to_string(), setting(name));
    }
    let ends_after = seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"])
        + seconds(&Value::from(setting("DRAIN_TIMEOUT")));
    assert!(seconds(&pod["terminationGracePeriodSeconds"]) >= ends_after + 5, "killed while it drains");
    let probes = ["readinessProbe", "livenessProbe"].map(|probe| &container[probe]["httpGet"]);
    for probe in probes {
        assert_eq!((&probe["path"], &probe["port"]), (&"/healthz".into(), &container["ports"][1]["name"]));
    }
}

#[test]
fn its_parts_find_each_other_and_the_pod_has_no_rights() {
    let Some([deployment, service, budget]) = objects() else { return };
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    assert!(labels.is_object());
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let container = &template["spec"]["containers"][0];
    let names: Vec<&Value> = container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    let targets: Vec<&Value> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["targetPort"]).collect();
    assert_eq!(names, targets);
    assert!(
        budget["spec"]["minAvailable"].as_u64() < deployment["spec"]["replicas"].as_u64(),
        "no machine can be emptied"
    );

    let image = fs::read_to_string(repository().join("deploy/Dockerfile")).unwrap();
    let of_pod = &template["spec"]["securityContext"];
    assert!(image.contains(&format!("\nUSER {}:{}\n", of_pod["runAsUser"], of_pod["runAsGroup"])));
    assert_eq!(of_pod["runAsNonRoot"], true);
    assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault");
    let rights = &container["securityContext"];
    assert_eq!((&rights["allowPrivilegeEscalation"], &rights["readOnlyRootFilesystem"]), (&false.into(), &true.into()));
    assert_eq!(rights["capabilities"]["drop"][0], "ALL");
    assert_eq!(template["spec"]["automountServiceAccountToken"], false);
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/tmp", "the only folder to write to");
}
