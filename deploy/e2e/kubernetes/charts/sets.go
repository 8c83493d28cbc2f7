package charts

import "strings"

// Foreign is the manifest of a function that is not confab's, for tests.
const Foreign = `
function: translate
kind: call
methods:
  text: {public: true, idempotent: true, timeout: 1m30s}
  words: {timeout: 500ms}
concurrency: 8
scale: {min: 0, max: 6, wake: 3}
hold: 5s
environment: [CONFAB_WORDS]
resources: {cpu: 100m, memory: 1Gi}
`

// own is values with that function.
const own = `{own: {translate: {image: example/translate:1, environment: {CONFAB_WORDS: 3}, manifest: "` + "%s" + `"}}}`

// Sets returns values with which tests render the chart, by what they are about: together they reach every template and every branch that changes an object.
func Sets() map[string]string {
	translate := strings.Replace(own, "%s", strings.ReplaceAll(strings.TrimSpace(Foreign), "\n", `\n`), 1)
	return map[string]string{
		"the presets":               "",
		"every function may sleep":  "functions: {sleep: all}",
		"no function sleeps":        "functions: {sleep: none, images: multicall}",
		"no scaling":                "scaling: {enabled: false}",
		"one server":                "{nats: {replicas: 1}, edge: {scaling: {enabled: false}}}",
		"servers outside":           "{nats: {enabled: false, url: 'nats://nats.example:4222', users: false}, declare: {enabled: false}}",
		"a function of one's own":   "functions: " + translate,
		"neither policy nor budget": "{network: {enabled: false}, disruption: {enabled: false}, functions: {builtIn: {presence: {enabled: false}}}}",
		"all that can be": `{nats: {tlsSecret: nats-tls, caSecret: nats-ca}, scaler: {tlsSecret: scaler-tls, kedaSecret: keda-tls}, network: {monitoring: [{namespaceSelector: {}}], clients: [{podSelector: {}}]},
  edge: {tlsSecret: edge-tls, ingress: {enabled: true, host: chat.example, class: c, tlsSecret: i}, origins: ["https://a.example"], trustedProxies: [10.0.0.0/8], secrets: [{name: CONFAB_X, secret: s, key: k}]},
  pods: {listen: $(POD_IP), labels: {a: b}, annotations: {c: d}, nodeSelector: {e: f}, tolerations: [{key: g, operator: Exists}], priorityClass: h}, images: {registry: registry.example/confab/, tag: t, pullSecrets: [p]}}`,
	}
}
