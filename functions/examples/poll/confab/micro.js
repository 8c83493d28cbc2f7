// The control subjects of a NATS micro service, so that `nats micro ls`, `ping`, `info` and `stats` show the instance. Calls work without them.
const type = (verb) => `io.nats.micro.v1.${verb}_response`;

// answerControl subscribes to the control subjects. describe returns {name, id, version, metadata}, description, started, and endpoints with their counters.
export function answerControl(nc, describe) {
  const about = describe();
  const answers = {
    ping: ({ service }) => ({ type: type("ping"), ...service }),
    info: ({ service, description, endpoints }) => ({ type: type("info"), ...service, description, endpoints: endpoints.map((e) => e.info) }),
    stats: ({ service, started, endpoints }) => ({ type: type("stats"), ...service, started, endpoints: endpoints.map((e) => e.stats) }),
  };
  const subs = [];
  for (const [verb, of] of Object.entries(answers)) {
    const control = `$SRV.${verb.toUpperCase()}`;
    const { name, id } = about.service;
    for (const subject of [control, `${control}.${name}`, `${control}.${name}.${id}`]) {
      const callback = (error, msg) => error ?? msg.respond(JSON.stringify(of(describe())));
      subs.push(nc.subscribe(subject, { callback }));
    }
  }
  return subs;
}
