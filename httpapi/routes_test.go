package httpapi

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/mux"
)

// templates is the routes as gorilla/mux itself reads them.
func templates() *mux.Router {
	router := mux.NewRouter().UseEncodedPath()
	named := map[string]bool{}
	for _, rt := range routes {
		if !named[rt.path] {
			named[rt.path] = true
			router.Path(rt.path).Name(rt.path)
		}
	}
	return router
}

// findsAsTemplates fails unless the Server finds what the templates find at that target.
func findsAsTemplates(t *testing.T, s *Server, templates *mux.Router, target string) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return // net/http answers such a request line itself
	}
	r := &http.Request{Method: http.MethodGet, URL: u}
	var want, got mux.RouteMatch
	wanted, found := "nothing", "nothing"
	if templates.Match(r, &want) {
		wanted = want.Route.GetName() + " with id " + want.Vars["id"]
	}
	if s.router.Match(r, &got) {
		id, ok := s.resources[got.Route.GetName()].idIn(u.EscapedPath())
		if found = got.Route.GetName() + " with id " + id; !ok {
			t.Errorf("%q: %s does not say its id", target, got.Route.GetName())
		}
	}
	if wanted != found {
		t.Errorf("%q: the templates find %s, the Server %s", target, wanted, found)
	}
}

func TestTheRouterFindsWhatTheTemplatesSay(t *testing.T) {
	s, templates := newWorld(t).server, templates()
	for _, rt := range routes {
		for _, id := range []string{
			"p1", "", "/", "a/b", "a%2Fb", "%2F", "%", "%zz", "%00", "é", "%C3%A9", "%ff", "a b", "%20", "+", ".", "..", "{id}", "%7Bid%7D", "status", "promote", "status/status",
			"a%0Ab", "a;b", "a:b@c", "0198a5c2-7f1e-7c4e-9d1a-3f2b6c5d4e7f", "%70%31", "$&!'()*,=~_-", "[x]", "a%2525",
		} {
			path := strings.ReplaceAll(rt.path, "{id}", id)
			middle := len(path) / 2
			for _, target := range []string{
				path, path + "/", path + "//", path + "?a=b", path + "?", path + "x", path + "%2F", path + "\n", "/" + path, "." + path, "http://host" + path, "http://host:1" + path,
				path[:middle] + "%" + path[middle:], path[:middle] + "/" + path[middle:], path[:middle], path[middle:], strings.ToUpper(path), path + path,
				path[:middle] + strings.ToLower(url.PathEscape(path[middle:])), strings.Replace(path, "p", "%70", 1), strings.Replace(path, "s", "%73", 2), "*", "//", "",
			} {
				findsAsTemplates(t, s, templates, target)
			}
		}
	}
}

func FuzzRouter(f *testing.F) {
	for _, rt := range routes {
		f.Add(rt.path)
	}
	f.Add("/api/v1/printers/%2F")
	f.Add("/api/v1/%70rinters/p1")
	f.Add("http://host/api/v1/print_jobs/j1/status?status=Done")
	s, templates := newWorld(f).server, templates()
	f.Fuzz(func(t *testing.T, target string) { findsAsTemplates(t, s, templates, target) })
}
