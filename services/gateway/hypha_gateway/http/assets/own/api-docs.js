// Shows the document that the page names; links such as #/default/<operation id> open that operation.
const at = document.getElementById("api");
SwaggerUIBundle({
  url: at.dataset.openapi,
  domNode: at,
  deepLinking: true,
  docExpansion: "list",
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
