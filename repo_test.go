// Package capguard_test enforces the rules of the house: what may import what, that every package says what it is for, and which habits
// are left outside. Each rule says why it exists.
package capguard_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/capguard/capguard"

// floors order the packages: imports go downwards only. The first prefix that fits counts.
var floors = []struct {
	prefix string
	floor  int
}{
	{"gen", 0},
	{"internal/guard/breaker", 1},
	{"internal/guard/limit", 1},
	{"internal/guard/queue", 1},
	{"internal/guard", 2},
	{"internal/grpcguard", 3},
	{"internal/tuning", 3},
	{"featureflags/", 3}, // stores and sources
	{"featureflags", 1},
	{"server", 4},
	{"client", 4},
	{"loadtest", 4},
	{"internal/e2e", 5},
	{"cmd", 5},
}

// strangers never see each other, in either direction.
var strangers = []struct{ a, b, why string }{
	{"client", "server", "applications must not link the guard's server, nor the server know its clients"},
	{"internal/guard", "featureflags", "the guard is told percentages; only tuning knows both"},
}

// forbidden imports, with the lowest floor that may have them.
var forbidden = []struct {
	path  string
	floor int
	why   string
}{
	{"google.golang.org/grpc", 3, "the core decides without knowing gRPC; its tests need none"},
	{"log", 99, "log/slog is the only logger"},
	{"log/slog", 4, "leaves and core report by return values; the server logs"},
	{"math/rand", 99, "math/rand/v2 needs no seeding"},
	{"github.com/pkg/errors", 99, "fmt.Errorf with %w does it"},
}

// source is one Go file of the product or its tests.
type source struct {
	path string // slash-separated, relative to the root
	pkg  string // folder
	file *ast.File
	text string
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func sources(t *testing.T) (all []source, fset *token.FileSet) {
	t.Helper()
	fset = token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (nested(path) || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		all = append(all, source{filepath.ToSlash(path), filepath.ToSlash(filepath.Dir(path)), file, string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files: the rules are not being checked", len(all))
	}
	return all, fset
}

// nested tells whether a folder is a module of its own: tools and rivals are outside the product.
func nested(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func floorOf(pkg string) int {
	for _, f := range floors {
		if pkg == f.prefix || strings.HasPrefix(pkg, strings.TrimSuffix(f.prefix, "/")+"/") {
			return f.floor
		}
	}
	return 5 // the root, end-to-end tests
}

func imports(s source) []string {
	var paths []string
	for _, i := range s.file.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

func TestImportsGoDownwards(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if s.test() {
			continue // tests may look up: a real part beats a fake one
		}
		for _, path := range imports(s) {
			to, ours := strings.CutPrefix(path, module+"/")
			if ours && floorOf(to) > floorOf(s.pkg) {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go downwards only", s.path, floorOf(s.pkg), to, floorOf(to))
			}
		}
	}
}

func TestStrangersStayStrangers(t *testing.T) {
	all, _ := sources(t)
	within := func(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }
	for _, s := range all {
		if s.test() {
			continue
		}
		for _, path := range imports(s) {
			to, _ := strings.CutPrefix(path, module+"/")
			for _, x := range strangers {
				if within(s.pkg, x.a) && within(to, x.b) || within(s.pkg, x.b) && within(to, x.a) {
					t.Errorf("%s imports %s: %s", s.path, to, x.why)
				}
			}
		}
	}
}

func TestForbiddenImports(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if s.test() || s.pkg == "gen" || strings.HasPrefix(s.pkg, "gen/") {
			continue
		}
		for _, path := range imports(s) {
			for _, f := range forbidden {
				if (path == f.path || f.floor < 99 && strings.HasPrefix(path, f.path+"/")) && floorOf(s.pkg) < f.floor {
					t.Errorf("%s imports %s: %s", s.path, path, f.why)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	all, _ := sources(t)
	documented := make(map[string]bool)
	for _, s := range all {
		if strings.HasPrefix(s.pkg, "gen/") || s.test() && s.pkg != "." && s.pkg != "internal/e2e" {
			continue
		}
		documented[s.pkg] = documented[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func TestPackageDocsSayWhatIsLeftOut(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if s.file.Doc == nil || s.test() || s.file.Name.Name == "main" || strings.HasPrefix(s.pkg, "gen/") {
			continue
		}
		if !strings.Contains(strings.ToLower(strings.Join(strings.Fields(s.file.Doc.Text()), " ")), "does not do") {
			t.Errorf("%s: the package comment does not end with what the package does not do", s.path)
		}
	}
}

func TestExportedSymbolsAreDocumented(t *testing.T) {
	all, fset := sources(t)
	for _, s := range all {
		if s.test() || strings.HasPrefix(s.pkg, "gen/") {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: exported %s has no comment", fset.Position(d.Pos()), name)
			}
		}
	}
}

// undocumented returns the exported names of d without a comment. A comment on a group, and a comment at the end of a line, count.
func undocumented(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && !methodOfPrivate(d) && !wellKnown[d.Name.Name] {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					names = append(names, spec.Names[0].Name)
				}
			}
		}
	}
	return names
}

// wellKnown are methods whose name says all, because an interface of the standard library prescribes them.
var wellKnown = map[string]bool{"Error": true, "Unwrap": true, "String": true, "Set": true}

func methodOfPrivate(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	t := d.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if g, ok := t.(*ast.IndexExpr); ok {
		t = g.X
	}
	id, ok := t.(*ast.Ident)
	return ok && !id.IsExported()
}

func TestNoInit(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !strings.HasPrefix(s.pkg, "gen/") {
				t.Errorf("%s has an init: what happens at import time can be neither tested nor ordered", s.path)
			}
		}
	}
}

// realTime names the tests that may sleep for real, and why.
var realTime = map[string]string{
	"internal/e2e/":                   "attacks on a real process last for a while, and so does the quiet after them",
	"server/relay/regression_test.go": "a kernel that drops what is on its way is in no bubble",
}

func mayTakeTime(path string) bool {
	for prefix := range realTime {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// TestNoSleepingTests lets other tests sleep only inside a synctest bubble, where sleeping takes no time.
func TestNoSleepingTests(t *testing.T) {
	all, fset := sources(t)
	for _, s := range all {
		if !s.test() || s.path == "repo_test.go" || mayTakeTime(s.path) {
			continue
		}
		bubbled := strings.Contains(s.text, "testing/synctest")
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if id, isID := identOf(call, ok); isID && id == "time" && call.Sel.Name == "Sleep" && !bubbled {
				t.Errorf("%s sleeps outside of a synctest bubble", fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func identOf(s *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, ok := s.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}

// TestNoDrawers forbids the packages in which things are lost.
func TestNoDrawers(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "misc", "shared", "base"}, filepath.Base(s.pkg)) {
			t.Errorf("%s: a package is named for what it holds", s.path)
		}
	}
}

func TestSizes(t *testing.T) {
	all, fset := sources(t)
	for _, s := range all {
		if strings.HasPrefix(s.pkg, "gen/") {
			continue
		}
		if n := strings.Count(s.text, "\n"); n > 600 {
			t.Errorf("%s has %d lines: a file of more than 600 holds two nouns", s.path, n)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line; n > 80 {
				t.Errorf("%s: %s has %d lines, more than 80", fset.Position(f.Pos()), f.Name.Name, n)
			}
		}
	}
}

// words that do not belong into what lands: unfinished business without an owner, and traces of where it was written.
var words = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b|not yet"|owner: write`)

func TestNothingUnfinished(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if m := words.FindString(s.text); m != "" && s.path != "repo_test.go" && !strings.HasPrefix(s.pkg, "gen/") {
			t.Errorf("%s contains %q", s.path, m)
		}
	}
}

// TestDependenciesAreArgued wants a line in docs/design/dependencies.md for every direct dependency.
func TestDependenciesAreArgued(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	argued, err := os.ReadFile("docs/design/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1)
	if len(direct) < 5 {
		t.Fatalf("found only %d direct dependencies in go.mod", len(direct))
	}
	for _, d := range direct {
		if !strings.Contains(string(argued), "`"+d[1]+"`") {
			t.Errorf("docs/design/dependencies.md does not say why we need %s", d[1])
		}
	}
}

// TestNoCgo keeps the guard one static binary.
func TestNoCgo(t *testing.T) {
	all, _ := sources(t)
	for _, s := range all {
		if slices.Contains(imports(s), "C") {
			t.Errorf("%s uses cgo", s.path)
		}
	}
}

// TestLessonsNameTheirTests keeps docs/lessons.md from rotting: each of its lines names the tests that show it, and each of them exists.
func TestLessonsNameTheirTests(t *testing.T) {
	all, _ := sources(t)
	exists := make(map[string]bool)
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test() && f.Recv == nil {
				exists[s.pkg+"."+f.Name.Name] = true
			}
		}
	}
	text, err := os.ReadFile("docs/lessons.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+\\.Test\\w+)`")
	lessons := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| What must hold") || strings.HasPrefix(line, "| ---") {
			continue
		}
		lessons++
		tests := named.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("docs/lessons.md has a line without a test: %s", line)
		}
		for _, test := range tests {
			if !exists[test[1]] {
				t.Errorf("docs/lessons.md names %s, which does not exist", test[1])
			}
		}
	}
	if lessons < 35 {
		t.Errorf("docs/lessons.md has only %d lines: they are not being read", lessons)
	}
}
