"use strict";

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "/openapi.json",
  layout: "BaseLayout",
  deepLinking: false,
  // Read no setting from the page's address: with this on, ?url= would show somebody else's document under our name.
  queryConfigEnabled: false,
  // The default sends the address of our document to a public validator.
  validatorUrl: null,
  // A key typed in here is forgotten when the page is left.
  persistAuthorization: false,
});
