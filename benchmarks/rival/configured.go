package rival

import (
	"embed"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

var templates = template.Must(template.ParseFS(files, "*.tmpl"))

// The rivals that have a configuration file.
var (
	Nginx   = Rival{Name: "nginx", Passes: true, launch: nginx}
	HAProxy = Rival{Name: "HAProxy", Passes: true, launch: haproxy}
	Caddy   = Rival{Name: "Caddy", Passes: true, launch: caddy}
)

// write writes the configuration file of a site from the template of that name, and returns its path.
func (s site) write(name string) (string, error) {
	f, err := os.Create(filepath.Join(s.Dir, name))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return f.Name(), templates.ExecuteTemplate(f, name+".tmpl", s)
}

func nginx(_ *Ground, s site) (*process, error) {
	conf, err := s.write("nginx.conf")
	if err != nil {
		return nil, err
	}
	return start("nginx", "-p", s.Dir, "-e", "stderr", "-c", conf)
}

func haproxy(_ *Ground, s site) (*process, error) {
	conf, err := s.write("haproxy.cfg")
	if err != nil {
		return nil, err
	}
	return start("haproxy", "-db", "-f", conf)
}

func caddy(g *Ground, s site) (*process, error) {
	conf, err := s.write("Caddyfile")
	if err != nil {
		return nil, err
	}
	return start(filepath.Join(g.programs, "caddy"), "run", "--adapter", "caddyfile", "--config", conf)
}
