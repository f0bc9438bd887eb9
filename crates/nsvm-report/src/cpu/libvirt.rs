//! libvirt's XML: the CPU of a domain, of the host's capabilities, of the domain capabilities.
//!
//! A domain's model and features go to QEMU as they are, so QEMU's model says what is not named. The host's
//! capabilities name the nearest model of libvirt's own and what the host has beyond it, as far as that libvirt
//! knew: what they do not name is unknown.

use super::described::Described;
use super::names::explain;
use crate::suggest;
use roxmltree::{Document, Node, ParsingOptions};
use vmcb::{Cpu, Feature};

/// A domain with all its devices has some hundred.
const MOST_NODES: u32 = 100_000;

pub(super) fn read(text: &str) -> Result<Described, String> {
    // Entities stand in a DTD, which libvirt does not write and which is refused.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| format!("not the XML of a CPU: {error}"))?;
    let root = document.root_element();
    match root.tag_name().name() {
        "cpu" => guest(root),
        "domain" => match child(root, "cpu") {
            Some(cpu) => guest(cpu),
            None => Ok(Described {
                cpu: Cpu::ANY,
                remarks: vec!["the domain has no <cpu>: QEMU's default model, which has no name here; nothing of it is known".into()],
            }),
        },
        "capabilities" => {
            let cpu = child(root, "host").and_then(|host| child(host, "cpu"));
            host(cpu.ok_or("the capabilities have no <host> with a <cpu>")?)
        }
        "domainCapabilities" => {
            let modes = child(root, "cpu").into_iter().flat_map(|cpu| cpu.children());
            let model = modes.into_iter().find(|mode| mode.attribute("name") == Some("host-model"));
            guest(model.ok_or("the domain capabilities have no <mode name='host-model'>")?)
        }
        other => Err(format!(
            "<{}> is none of <domain>, <capabilities>, <domainCapabilities>, <cpu>",
            suggest::shorten(other)
        )),
    }
}

fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    Some(child(node, name)?.text().unwrap_or("").trim())
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The CPU that a guest gets.
fn guest(node: Node<'_, '_>) -> Result<Described, String> {
    let mut remarks = Vec::new();
    let mode = node.attribute("mode").or_else(|| node.attribute("name")).unwrap_or("custom");
    let mut cpu = match text_of(node, "model") {
        // A full check has written down the model that was used, also for host-model.
        Some(name) if !matches!(mode, "host-passthrough" | "maximum") => model(name)?,
        _ => {
            remarks.push(format!(
                "<cpu mode='{}'>: the host's CPU, of which the XML says nothing",
                suggest::shorten(mode)
            ));
            Cpu::ANY
        }
    };
    if node.attribute("match") == Some("minimum") {
        // The host's own features are added: only what is there for certain stays known.
        remarks.push("match='minimum': the host may add features, so what is not named is unknown".into());
        for &feature in Feature::ALL {
            if cpu.has(feature) == Some(false) {
                cpu = cpu.without_knowing(feature);
            }
        }
    }
    features(node, &mut cpu)?;
    width(node, &mut cpu, &mut remarks)?;
    Ok(Described { cpu, remarks })
}

/// The CPU of a host.
fn host(node: Node<'_, '_>) -> Result<Described, String> {
    let mut remarks = vec![
        "the capabilities do not name every feature of the host: what they do not name is unknown".to_owned(),
    ];
    let mut cpu = Cpu::ANY;
    if let Some(name) = text_of(node, "model") {
        let named = model(name)?;
        for &feature in Feature::ALL {
            if named.has(feature) == Some(true) {
                cpu = cpu.with(feature, true);
            }
        }
    }
    features(node, &mut cpu)?;
    width(node, &mut cpu, &mut remarks)?;
    Ok(Described { cpu, remarks })
}

fn model(name: &str) -> Result<Cpu, String> {
    Cpu::model(name).map_err(|error| {
        let error = explain(&error);
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        format!("<model>: {error}{help}")
    })
}

/// What is no feature that a rule reads is passed over: a domain names dozens.
fn features(node: Node<'_, '_>, cpu: &mut Cpu) -> Result<(), String> {
    for feature in node.children().filter(|child| child.has_tag_name("feature")) {
        let Some(known) = feature.attribute("name").and_then(Feature::from_name) else { continue };
        *cpu = match feature.attribute("policy").unwrap_or("require") {
            "require" | "force" => cpu.with(known, true),
            "disable" | "forbid" => cpu.with(known, false),
            // The host decides.
            "optional" => cpu.without_knowing(known),
            other => {
                return Err(format!(
                    "feature `{}`: no policy is named `{}`",
                    known.name(),
                    suggest::shorten(other)
                ));
            }
        };
    }
    Ok(())
}

fn width(node: Node<'_, '_>, cpu: &mut Cpu, remarks: &mut Vec<String>) -> Result<(), String> {
    let Some(element) = child(node, "maxphysaddr") else {
        remarks.push("no <maxphysaddr>: give phys-bits".into());
        return Ok(());
    };
    match (element.attribute("mode"), element.attribute("bits")) {
        (Some("emulate"), Some(bits)) => {
            let known = bits.parse().ok().and_then(|bits| cpu.with_phys_bits(bits));
            *cpu =
                known.ok_or(format!("<maxphysaddr bits='{}'>: expected 32 to 52", suggest::shorten(bits)))?;
        }
        _ => remarks.push(
            "<maxphysaddr>: the host's address width, which the XML does not say; give phys-bits".into(),
        ),
    }
    Ok(())
}
