// What axe-core objects to, by the rules in arguments[0] or by all: how bad it is, the rule, where first.
const [rules, done] = arguments;
axe.run({ resultTypes: ["violations"], ...(rules.length ? { runOnly: { type: "rule", values: rules } } : {}) }).then(
  ({ violations }) => done(violations.map((v) => [v.impact, v.id, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200))])),
  (error) => done([["failed", String(error), []]]),
);
