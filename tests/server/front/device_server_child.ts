/** A server that is ready at once, tells its command line, and ends with code 1 where it is asked to. */
const port = Number(Deno.args[Deno.args.indexOf("--port") + 1]);
Deno.serve({ port, hostname: "127.0.0.1", onListen: () => {} }, ({ url }) => {
  if (new URL(url).pathname === "/end") setTimeout(() => Deno.exit(1), 10);
  return new Response(Deno.args.join(" "));
});
