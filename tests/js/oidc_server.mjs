// An OpenID Connect provider whose people log in with any name: `node oidc_server.mjs '{"port": …, "clients": […]}'`.
// It makes a new key at every start, and prints "ready".
import { generateKeyPairSync, randomUUID } from "node:crypto";
import Provider from "oidc-provider";

const NAMESPACE = "https://amun.ai/";
const { port, clients, audience, keyId = randomUUID(), tokenLife = 300, claimsInIdToken = false } = JSON.parse(process.argv[2]);

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: keyId, alg: "RS256", use: "sig" };

// What is said of people depends on how their names begin.
function claimsOf(name) {
  const email = `${name.replace("|", ".")}@example.org`;
  return {
    sub: name, email, email_verified: !name.startsWith("unverified"), name: `${name} of Example`, nickname: name,
    ...(name.startsWith("chief") && { [`${NAMESPACE}roles`]: ["admin"] }),
  };
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  jwks: { keys: [key] },
  cookies: { keys: [randomUUID()] },
  conformIdTokenClaims: !claimsInIdToken,
  claims: { openid: ["sub", `${NAMESPACE}roles`], email: ["email", "email_verified"], profile: ["name", "nickname"] },
  ttl: { AccessToken: tokenLife, Grant: 3600, IdToken: 3600, Interaction: 3600, Session: 3600 },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => claimsOf(id) }),
  // Access tokens are JSON Web Tokens for the resource that was asked for, else for the hub.
  extraTokenClaims: (ctx, token) => {
    const claims = claimsOf(token.accountId ?? token.clientId);
    return {
      [`${NAMESPACE}email`]: claims.email,
      [`${NAMESPACE}email_verified`]: claims.email_verified,
      [`${NAMESPACE}roles`]: claims[`${NAMESPACE}roles`],
      roles: ["admin"],
    };
  },
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: "openid email profile ws:somebody-elses#a", audience: resource, accessTokenFormat: "jwt", accessTokenTTL: tokenLife,
      }),
    },
    rpInitiatedLogout: { enabled: true },
  },
});

provider.listen(port, "127.0.0.1", () => console.log("ready"));
