/** Starts Swagger UI over this server's own description. */
globalThis.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // no badge of a validator elsewhere
  validatorUrl: null,
  persistAuthorization: false,
});
