"""The volumes of a Pod, as a kubelet makes them and keeps them up to date."""

import base64
import os
import shutil
import threading


class Volumes:
    """A folder for each volume, and files for `pod.sh`."""

    def __init__(self, cluster, pod, folder, names):
        """`names`: the address that answers what names stand for."""
        self._cluster, self._spec, self.folder, self._names = cluster, pod["spec"], folder, names
        self._namespace = pod["metadata"]["namespace"]
        self._group = self._spec["securityContext"].get("fsGroup", 0)
        self._version = 0
        self._lock, self._is_laid_out = threading.Lock(), False

    def lay_out(self):
        with self._lock:
            self._lay_out()
            self._is_laid_out = True

    def refresh(self, secret):
        """What is mounted of a secret follows it."""
        with self._lock:
            for volume in self._spec.get("volumes", ()) if self._is_laid_out else ():
                if volume.get("secret", {}).get("secretName") == secret:
                    self._put(volume, "secret", secret)

    def _lay_out(self):
        self.folder.mkdir(parents=True)
        for volume in self._spec.get("volumes", ()):
            self._make(volume)
        [container] = self._spec["containers"]
        mounts = [
            f"{it['name']} {it['mountPath']} {'ro' if it.get('readOnly') else 'rw'}\n"
            for it in container.get("volumeMounts", ())
        ]
        (self.folder / "mounts").write_text("".join(mounts))
        search = f"{self._namespace}.svc.cluster.local svc.cluster.local cluster.local"
        (self.folder / "resolv.conf").write_text(
            f"nameserver {self._names}\nsearch {search}\noptions ndots:5\n"
        )

    def _make(self, volume):
        folder = self.folder / volume["name"]
        folder.mkdir()
        os.chown(folder, 0, self._group)
        folder.chmod(0o2777 if "emptyDir" in volume else 0o2755)
        for kind, named in (("secret", "secretName"), ("configMap", "name")):
            if kind in volume:
                self._put(volume, kind, volume[kind][named])

    def _put(self, volume, kind, name):
        """All files of a volume at once: links through `..data`, which is exchanged whole."""
        folder, files = self.folder / volume["name"], self.files(kind, name)
        paths = {it["key"]: it["path"] for it in volume[kind].get("items", ())}
        paths = paths or {key: key for key in files}
        self._version += 1
        version = folder / f"..version{self._version}"
        version.mkdir()
        for key, path in paths.items():
            (version / path).write_bytes(files[key])
            os.chown(version / path, 0, self._group)
            (version / path).chmod(volume[kind]["defaultMode"])
        before = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else None
        (folder / "..data_tmp").symlink_to(version.name)
        os.replace(folder / "..data_tmp", folder / "..data")
        for path in paths.values():
            if not (folder / path).is_symlink():
                (folder / path).symlink_to(f"..data/{path}")
        if before:
            shutil.rmtree(folder / before)

    def files(self, kind, name):
        path = f"/api/v1/namespaces/{self._namespace}/{kind.lower()}s/{name}"
        plain = {key: value.encode() for key, value in self._cluster.call("GET", path).get("data", {}).items()}
        if kind == "secret":
            return {key: base64.b64decode(value) for key, value in plain.items()}
        return plain
