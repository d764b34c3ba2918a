{
  "targets": [
    {
      "target_name": "longspan",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/longspan.node"],
          "action": ["node", "scripts/build-native.mjs", "<(PRODUCT_DIR)/longspan.node", "<(CONFIGURATION_NAME)"]
        }
      ]
    }
  ]
}
