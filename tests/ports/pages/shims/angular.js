// The little of AngularJS that the page calls, doing what AngularJS does.
(function () {
  var modules = {};

  function Module() {
    this.recipes = {};
    this.blocks = [];
  }

  Module.prototype = {
    factory: function (name, recipe) {
      this.recipes[name] = recipe;
      return this;
    },
    run: function (block) {
      this.blocks.push(block);
      return this;
    },
  };

  function Scope() {
    this.listeners = {};
    this.watchers = [];
  }

  Scope.prototype = {
    $on: function (name, listener) {
      (this.listeners[name] = this.listeners[name] || []).push(listener);
    },
    $broadcast: function (name, value) {
      (this.listeners[name] || []).forEach(function (listener) { listener({ name: name }, value); });
    },
    $watch: function (watcher) {
      this.watchers.push(watcher);
    },
    $apply: function (change) {
      change(this);
      var scope = this;
      this.watchers.forEach(function (watcher) { watcher(scope); });
    },
  };

  function post(url) {
    return fetch(url, { method: "POST" })
      .then(function (answer) { return answer.json(); })
      .then(function (data) { return { data: data }; });
  }

  function bootstrap(name) {
    var module = modules[name];
    var services = { $rootScope: new Scope(), $http: { post: post }, $window: window };
    function inject(recipe) {
      return recipe[recipe.length - 1].apply(null, recipe.slice(0, -1).map(service));
    }
    function service(name) {
      if (!(name in services)) services[name] = inject(module.recipes[name]);
      return services[name];
    }
    module.blocks.forEach(inject);
  }

  window.angular = {
    fromJson: JSON.parse,
    module: function (name, needed) {
      if (needed) modules[name] = new Module();
      return modules[name];
    },
  };
  document.addEventListener("DOMContentLoaded", function () {
    bootstrap(document.documentElement.getAttribute("ng-app"));
  });
})();
