package kubernetes

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	api "k8s.io/api/core/v1"
)

// furnish makes the pod's root directory anew: /tmp and /etc/hosts, the volumes, and a link to a volume where a container mounts it. All containers of a pod
// share the root. What is not a volume belongs to the user of the tests and can be written by no pod.
func (p *pod) furnish(ctx context.Context) error {
	if err := os.RemoveAll(p.root); err != nil {
		return err
	}
	if err := p.node.services.join(p.root, p.object.Namespace); err != nil {
		return err
	}
	for _, volume := range p.object.Spec.Volumes {
		if err := p.fill(ctx, volume); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	for _, c := range p.containers {
		for _, mount := range c.spec.VolumeMounts {
			if err := p.mount(mount); err != nil {
				return fmt.Errorf("mount %s: %w", mount.MountPath, err)
			}
		}
	}
	return nil
}

// volume returns where a volume stands.
func (p *pod) volume(name string) string { return filepath.Join(p.root, "volumes", name) }

// claim returns where the data of a claim stands while no pod has it.
func (p *pod) claim(name string) string {
	return filepath.Join(p.node.dir, "claims", p.object.Namespace, name)
}

// fill makes a volume.
func (p *pod) fill(ctx context.Context, volume api.Volume) error {
	dir := p.volume(volume.Name)
	switch {
	case volume.PersistentVolumeClaim != nil:
		return p.take(dir, p.claim(volume.PersistentVolumeClaim.ClaimName))
	case volume.EmptyDir != nil:
		return open(dir)
	case volume.Secret != nil:
		source := volume.Secret
		data, err := p.secret(ctx, source.SecretName, override(false, source.Optional))
		return p.files(dir, data, source.Items, source.DefaultMode, err)
	case volume.ConfigMap != nil:
		source := volume.ConfigMap
		data, err := p.configMap(ctx, source.Name, override(false, source.Optional))
		return p.files(dir, data, source.Items, source.DefaultMode, err)
	case volume.Projected != nil:
		return p.project(ctx, dir, volume.Projected)
	}
	return fmt.Errorf("it is of a kind that this node does not know")
}

// take moves a claim's data into the pod, where its processes can see it. It goes back when the pod ends.
func (p *pod) take(dir, claim string) error {
	if err := os.MkdirAll(filepath.Dir(claim), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Rename(claim, dir); !os.IsNotExist(err) {
		return err
	}
	return open(dir)
}

// open makes a directory that every user may write to.
func open(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o777)
}

// project fills a volume from several sources.
func (p *pod) project(ctx context.Context, dir string, projected *api.ProjectedVolumeSource) error {
	for _, source := range projected.Sources {
		var data map[string][]byte
		var items []api.KeyToPath
		var err error
		switch {
		case source.Secret != nil:
			items = source.Secret.Items
			data, err = p.secret(ctx, source.Secret.Name, override(false, source.Secret.Optional))
		case source.ConfigMap != nil:
			items = source.ConfigMap.Items
			data, err = p.configMap(ctx, source.ConfigMap.Name, override(false, source.ConfigMap.Optional))
		default:
			err = fmt.Errorf("this node has no tokens of service accounts, since no program of confab needs one")
		}
		if err := p.files(dir, data, items, projected.DefaultMode, err); err != nil {
			return err
		}
	}
	return nil
}

// files writes a volume's files: all, or the listed ones under the listed names.
func (p *pod) files(dir string, data map[string][]byte, items []api.KeyToPath, mode *int32, err error) error {
	if err != nil {
		return err
	}
	if len(items) == 0 {
		for name := range data {
			items = append(items, api.KeyToPath{Key: name, Path: name})
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, item := range items {
		value, found := data[item.Key]
		if !found {
			return fmt.Errorf("there is no key %q", item.Key)
		}
		file := filepath.Join(dir, item.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, value, 0o600); err != nil {
			return err
		}
		if err := p.permit(file, os.FileMode(override(override(0o644, mode), item.Mode))); err != nil {
			return err
		}
	}
	return nil
}

// permit gives a file the mode that the volume says, and to the pod's group where it has one.
func (p *pod) permit(file string, mode os.FileMode) error {
	if s := p.object.Spec.SecurityContext; s != nil && s.FSGroup != nil && os.Getuid() == 0 {
		mode |= 0o440
		if err := os.Chown(file, -1, int(*s.FSGroup)); err != nil {
			return err
		}
	}
	return os.Chmod(file, mode)
}

// mount links the path where a container expects a volume to the volume.
func (p *pod) mount(mount api.VolumeMount) error {
	target := filepath.Join("/volumes", mount.Name, mount.SubPath)
	if mount.SubPath != "" {
		if _, err := os.Stat(filepath.Join(p.root, target)); os.IsNotExist(err) {
			if err := open(filepath.Join(p.root, target)); err != nil {
				return err
			}
		}
	}
	link := filepath.Join(p.root, mount.MountPath)
	if there, err := os.Readlink(link); err == nil && there == target {
		return nil // two containers mount it at the same place
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	return os.Symlink(target, link)
}

// install puts a program into a root directory, by a second name for the same file where that is possible.
func install(binary, at string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Link(binary, at); err == nil {
		return nil
	}
	from, err := os.Open(binary)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if closing := to.Close(); err == nil {
		err = closing
	}
	return err
}
