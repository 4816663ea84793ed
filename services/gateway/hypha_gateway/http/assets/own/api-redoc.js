const at = document.getElementById("api");
Redoc.init(at.dataset.openapi, { disableSearch: true, hideDownloadButtons: false }, at);
