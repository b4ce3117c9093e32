// The little of RequireJS that the page calls, doing what RequireJS does.
(function () {
  var config = { paths: {}, shim: {} };
  var modules = {};
  var anonymous = null;

  function urlOf(name) {
    var url = config.paths[name] || name;
    return /\?/.test(url) ? url : url + ".js";
  }

  function load(name) {
    if (modules[name]) return modules[name];
    modules[name] = new Promise(function (resolve, reject) {
      var script = document.createElement("script");
      script.async = true;
      script.onerror = reject;
      script.onload = function () {
        var defined = anonymous;
        anonymous = null;
        if (defined) resolve(run(defined.names, defined.factory));
        else resolve(exported(config.shim[name].exports));
      };
      script.src = urlOf(name);
      document.head.appendChild(script);
    });
    return modules[name];
  }

  function exported(path) {
    return path.split(".").reduce(function (value, name) { return value[name]; }, window);
  }

  function run(names, factory) {
    return Promise.all(names.map(load)).then(function (values) {
      return factory.apply(null, values);
    });
  }

  window.define = function (names, factory) {
    anonymous = { names: names, factory: factory };
  };
  window.define.amd = {};
  window.require = run;
  window.require.config = function (given) {
    Object.assign(config.paths, given.paths);
    Object.assign(config.shim, given.shim);
  };
})();
