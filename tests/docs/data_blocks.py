"""What can be said of a block of data without running it: YAML, JSON, a unit of systemd's, a Dockerfile."""
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from markdown import Absent, Wrong

sys.path.append("/usr/lib/python3/dist-packages")  # for PyYAML: Debian's serves another Python as well

PODS_OF = {"Pod": "", "Deployment": "template", "DaemonSet": "template", "StatefulSet": "template", "Job": "template",
           "CronJob": "jobTemplate.spec.template"}
OTHER_KINDS = {"ConfigMap", "Service", "Namespace", "PersistentVolumeClaim", "Kustomization"}
POD = """activeDeadlineSeconds affinity automountServiceAccountToken containers dnsPolicy hostIPC hostNetwork hostPID imagePullSecrets
initContainers nodeName nodeSelector priorityClassName restartPolicy runtimeClassName securityContext serviceAccountName
shareProcessNamespace terminationGracePeriodSeconds tolerations volumes""".split()
CONTAINER = """args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resources
restartPolicy securityContext startupProbe stdin terminationMessagePath terminationMessagePolicy tty volumeMounts
workingDir""".split()
QUANTITY = r"\d+(\.\d+)?(m|[kMGT]|[KMGT]i)?"


def known(keys, allowed, where):
    for key in keys:
        if key not in allowed:
            raise Wrong(f"{where} has no field '{key}'")


def check_pod(spec, where):
    known(spec, POD, where)
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        if len(volume) != 2:
            raise Wrong(f"the volume '{volume['name']}' needs a name and a source")
        for size in (volume.get("emptyDir") or {}).items():
            if size[0] not in ("medium", "sizeLimit") or size[0] == "sizeLimit" and not re.fullmatch(QUANTITY, str(size[1])):
                raise Wrong(f"emptyDir cannot be '{size[0]}: {size[1]}'")
    if not spec.get("containers"):
        raise Wrong(f"{where} has no containers")
    for container in spec["containers"] + spec.get("initContainers", []):
        known(container, CONTAINER, "a container")
        if not container.get("name") or not container.get("image"):
            raise Wrong("a container needs a name and an image")
        for variable in container.get("env", []):
            if "valueFrom" not in variable and not isinstance(variable.get("value"), str):
                raise Wrong(f"the value of the variable '{variable.get('name')}' is no text: quote it")
        for kind, sizes in container.get("resources", {}).items():
            known([kind], ["limits", "requests"], "resources")
            for size in sizes.values():
                if not re.fullmatch(QUANTITY, str(size)):
                    raise Wrong(f"'{size}' is no quantity")
        for mount in container.get("volumeMounts", []):
            if mount.get("name") not in volumes or not str(mount.get("mountPath")).startswith("/"):
                raise Wrong(f"the mount '{mount.get('name')}' needs a volume of that name, and a mountPath")


def check_kubernetes(document):
    kind = document.get("kind")
    if kind not in PODS_OF and kind not in OTHER_KINDS:
        raise Wrong(f"the kind '{kind}' is not known here")
    if not document["apiVersion"] or not document.get("metadata", {}).get("name"):
        raise Wrong(f"the {kind} needs an apiVersion and metadata.name")
    if kind not in PODS_OF:
        return
    pod = document
    for key in filter(None, ["spec" if PODS_OF[kind] else "", *PODS_OF[kind].split(".")]):
        if key not in pod:
            raise Wrong(f"the {kind} has no {key}")
        pod = pod[key]
    wanted = document.get("spec", {}).get("selector", {}).get("matchLabels", {})
    if not wanted.items() <= pod.get("metadata", {}).get("labels", {}).items():
        raise Wrong(f"the {kind} selects other pods than those that it makes")
    check_pod(pod.get("spec") or {}, f"the pod of the {kind}" if pod is not document else "the Pod")


def check_yaml(text):
    try:
        import yaml
    except ImportError:
        raise Absent("python3-yaml") from None
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise Wrong(f"no YAML: {error}") from None
    for document in documents:
        if not isinstance(document, (dict, list)):
            raise Wrong("no YAML of use: neither a mapping nor a list")
        if "apiVersion" in document:
            check_kubernetes(document)
        elif "services" in document:
            for name, service in document["services"].items():
                if not {"image", "build"} & service.keys():
                    raise Wrong(f"the service '{name}' needs an image, or what builds it")
        elif "scrape_configs" in document and "object_storage" not in document and shutil.which("promtool"):
            with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
                file.write(text)
                file.flush()
                call("promtool", "check", "config", "--syntax-only", file.name)


def call(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise Wrong(f"{command[0]} says\n{done.stdout}")
    return done.stdout


def check_json(text):
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise Wrong(f"no JSON: {error}") from None


def check_ini(text):
    if not re.search(r"^\[(Unit|Service|Timer|Path)\]", text, re.MULTILINE):
        try:
            configparser.ConfigParser(interpolation=None, strict=False).read_string(text)
        except configparser.Error as error:
            raise Wrong(f"no INI: {error}") from None
        return
    if not shutil.which("systemd-analyze"):
        raise Absent("systemd-analyze")
    # The programs that it starts are the reader's.
    text = re.sub(r"^(Exec\w+=[-+!@:]*)/\S+", r"\1/bin/true", text, flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as room:
        name = os.path.join(room, "shown.service" if "[Service]" in text or "[Timer]" not in text else "shown.timer")
        if "[Service]" not in text:  # a drop-in
            text += "[Service]\n"
        if name.endswith(".service") and "ExecStart=" not in text:
            text += "ExecStart=/bin/true\n"
        with open(name, "w") as file:
            file.write(text)
        said = call("systemd-analyze", "verify", "--man=no", name)
        if "shown." in said:  # a key that it does not know is only said
            raise Wrong(f"systemd-analyze says\n{said}")


INSTRUCTIONS = """ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME
WORKDIR""".split()


def check_dockerfile(text):
    lines = [line for line in re.sub(r"\\\n", " ", text).split("\n") if line.strip() and not line.startswith("#")]
    for number, line in enumerate(lines):
        instruction, _, rest = line.partition(" ")
        if instruction not in INSTRUCTIONS or not rest.strip():
            raise Wrong(f"no instruction of a Dockerfile: {line}")
        if number == 0 and instruction not in ("FROM", "ARG"):
            raise Wrong("a Dockerfile begins with FROM")
        if rest.lstrip().startswith("["):
            check_json(rest)
        elif instruction == "RUN":
            call("bash", "-n", "-c", rest)
        elif instruction in ("COPY", "ADD") and len([word for word in shlex.split(rest) if not word.startswith("--")]) < 2:
            raise Wrong(f"{instruction} needs a source and a target: {line}")
        elif instruction in ("ENV", "LABEL") and not all("=" in word for word in shlex.split(rest)):
            raise Wrong(f"{instruction} needs NAME=VALUE: {line}")


CHECKS = {"yaml": check_yaml, "json": check_json, "ini": check_ini, "dockerfile": check_dockerfile}
