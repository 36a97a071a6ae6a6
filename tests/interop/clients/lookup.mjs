// Node as a client: dns.lookup asks the C library, dns.resolve asks c-ares, which reads resolv.conf itself.
import { promises as dns } from "node:dns";

const [how, ...names] = process.argv.slice(2);

// A family that a name does not have is no failure as long as it has the other.
async function resolve(name) {
  const families = await Promise.allSettled([dns.resolve4(name), dns.resolve6(name)]);
  const found = families.flatMap((family) => family.value ?? []);
  if (found.length) return found;
  throw families[0].reason;
}

async function lookup(name) {
  return (await dns.lookup(name, { all: true, verbatim: true })).map(({ address }) => address);
}

for (const name of names) {
  try {
    console.log(name, (await (how === "resolve" ? resolve : lookup)(name)).join(" "));
  } catch (error) {
    console.log(name, error.code === "ENOTFOUND" || error.code === "ENODATA" ? "NONAME" : `AGAIN ${error.code}`);
  }
}
